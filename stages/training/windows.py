"""Which window of which utterance each step sees, as a function of the seed and the step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.training.seeds import derive_seed, numpy_generator
from stages.training.settings import DataSettings


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of one utterance."""

    example: int
    """Index of the utterance."""

    start: int
    """First unit (frame or sample) of the window."""

    length: int
    """Units, at least 1."""

    seed: int
    """For whatever else is drawn for this window, its mask for example."""


class WindowSampler:
    """Draws the windows of a step, in units of frames or samples."""

    def __init__(
        self,
        lengths: NDArray[np.int64],
        speakers: Sequence[str | None],
        *,
        units_per_second: float,
        batch_size: int,
        seed: int,
        settings: DataSettings,
    ) -> None:
        """Make ready to draw.

        Args:
            lengths: `[N]` units of each utterance, each at least 1.
            speakers: of each utterance, None where unknown.
            units_per_second: frame rate or sample rate, only for the windows' bounds.
            batch_size: windows of a step.
            seed: of the run.
            settings: bounds and balance.
        """
        self._lengths = lengths
        self._batch_size, self._seed = batch_size, seed
        self._shortest = settings.min_seconds * units_per_second
        self._longest = settings.max_seconds * units_per_second
        self._cumulative: NDArray[np.float64] | None = None
        if settings.speaker_power < 1.0:
            weights = speaker_weights(speakers, settings.speaker_power)
            self._cumulative = np.cumsum(weights) / weights.sum()
        self._epoch = (-1, np.empty(0, np.int64))

    def windows(self, step: int) -> list[Window]:
        """The `batch_size` windows of a step, over all processes."""
        generator = numpy_generator(self._seed, "windows", step)
        B = self._batch_size
        if self._cumulative is None:
            examples = [self._in_epoch(step * B + index) for index in range(B)]
        else:
            drawn = np.searchsorted(self._cumulative, generator.random(B), side="right")
            examples = np.minimum(drawn, len(self._lengths) - 1).tolist()
        windows = []
        for index, example in enumerate(examples):
            whole = int(self._lengths[example])
            wanted = generator.uniform(self._shortest, self._longest)
            length = min(whole, max(1, round(wanted)))
            start = int(generator.integers(0, whole - length + 1))
            seed = derive_seed(self._seed, "window", step, index)
            windows.append(Window(example=example, start=start, length=length, seed=seed))
        return windows

    def _in_epoch(self, position: int) -> int:
        """The utterance at a position of an endless row of shuffled epochs."""
        count = len(self._lengths)
        epoch, place = divmod(position, count)
        if self._epoch[0] != epoch:
            order = numpy_generator(self._seed, "epoch", epoch).permutation(count)
            self._epoch = (epoch, order)
        return int(self._epoch[1][place])


def speaker_weights(speakers: Sequence[str | None], power: float) -> NDArray[np.float64]:
    """Weight of each utterance such that a speaker's n utterances together weigh `n ** power`.

    An utterance without a speaker weighs the mean of those with one, so that balancing moves
    windows between the speakers that are known and never from or to the rest.
    """
    counts = Counter(speaker for speaker in speakers if speaker is not None)
    each = {speaker: count ** (power - 1.0) for speaker, count in counts.items()}
    labelled = sum(counts.values())
    mean = sum(count * each[s] for s, count in counts.items()) / labelled if labelled else 1.0
    return np.array([mean if s is None else each[s] for s in speakers], np.float64)


def deal(windows: Sequence[Window], *, rank: int, world: int) -> list[Window]:
    """One process's windows of a step, longest first."""
    return sorted(windows, key=lambda window: (-window.length, window.seed))[rank::world]


def share(windows: Sequence[Window], *, rank: int, world: int, budget: int) -> list[list[Window]]:
    """One process's micro-batches of a step: windows of like length, at most `budget` units each.

    Padding counts towards the budget; a window longer than it goes alone. The windows are dealt
    longest first, so that all the processes have about the same work.
    """
    batches: list[list[Window]] = []
    for window in deal(windows, rank=rank, world=world):
        last = batches[-1] if batches else None
        if last is None or (len(last) + 1) * last[0].length > budget:
            batches.append([window])
        else:
            last.append(window)
    return batches
