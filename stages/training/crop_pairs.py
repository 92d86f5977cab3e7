"""Two crops of each of some recordings, as a function of the seed and the step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.errors import DataMismatch
from stages.training.seeds import derive_seed, numpy_generator
from stages.training.settings import DataSettings, TrainingSettings
from stages.training.speech import SpeechBatch, SpeechReader, SpeechSet, readable
from stages.training.windows import Window, speaker_weights


def long_enough(lengths: NDArray[np.int64], shortest: int) -> NDArray[np.int64]:
    """Indices of recordings that two crops of `shortest` samples fit into."""
    return np.flatnonzero(lengths >= 2 * shortest)


def shortest_crop(settings: DataSettings, sample_rate: int) -> int:
    """Samples of the shortest crop that is drawn."""
    return max(1, round(settings.min_seconds * sample_rate))


class CropPairs:
    """The training batches of each step: groups of recordings that are contrasted.

    A group is one micro-batch, for its loss is no sum over smaller ones. Its rows are the two
    crops of each recording one after the other. The groups are dealt to the processes, so how many
    there are does not change what is contrasted.
    """

    def __init__(
        self,
        speech: SpeechSet,
        settings: TrainingSettings,
        sample_rate: int,
        *,
        group: int,
        per_speaker: int,
    ) -> None:
        """Make ready to draw.

        Args:
            speech: the recordings.
            settings: batch size, seed, lengths of crops and balance of speakers.
            sample_rate: Hz.
            group: recordings that are contrasted with one another.
            per_speaker: recordings that a group has of a speaker whom it has, if there are so many.

        Raises:
            DataMismatch: if too few recordings are long enough.
        """
        self._reader = SpeechReader(speech, sample_rate)
        self._settings, self._group, self._per_speaker = settings, group, per_speaker
        self._groups = settings.batch_size // group
        self._shortest = shortest_crop(settings.data, sample_rate)
        self._longest = max(self._shortest, round(settings.data.max_seconds * sample_rate))
        self._usable = long_enough(self._reader.lengths, self._shortest)
        self.too_short = len(self._reader.lengths) - len(self._usable)
        if len(self._usable) < group:
            raise DataMismatch(
                f"{len(self._usable)} recordings last {2 * settings.data.min_seconds:g} s, twice "
                f"data.min_seconds, and {group} are contrasted: lower either, or recipe.group"
            )
        self._speakers = [speech.speakers[index] for index in self._usable]
        self._of_speaker: dict[str, list[int]] = defaultdict(list)
        for place, speaker in enumerate(self._speakers):
            if speaker:
                self._of_speaker[speaker].append(place)
        weights = speaker_weights(self._speakers, settings.data.speaker_power)
        self._weights = weights / weights.sum()

    def micro_batches(self, step: int, rank: int, world: int) -> list[SpeechBatch]:
        """This process's groups of a step."""
        return readable(
            self._reader.batch(
                self.windows(step, group),
                seed=derive_seed(self._settings.seed, "batch", step, group),
            )
            for group in range(rank, self._groups, world)
        )

    def windows(self, step: int, group: int) -> list[Window]:
        """The crops of a group, two of each of its recordings."""
        generator = numpy_generator(self._settings.seed, "pairs", step, group)
        windows = []
        for place in self._draw(generator):
            example = int(self._usable[place])
            whole = int(self._reader.lengths[example])
            for start, length in draw_crops(
                whole, self._shortest, self._longest, generator=generator
            ):
                windows.append(Window(example=example, start=start, length=length, seed=0))
        return windows

    def _draw(self, generator: np.random.Generator) -> list[int]:
        """Places among the usable of a group's recordings, no two alike."""
        drawn: dict[int, None] = {}
        first = generator.choice(len(self._usable), self._group, replace=False, p=self._weights)
        for place in first.tolist():
            if place in drawn or len(drawn) >= self._group:
                continue
            drawn[place] = None
            everything = self._of_speaker.get(self._speakers[place] or "", [])
            fellows = np.array([other for other in everything if other not in drawn], np.int64)
            drawn |= dict.fromkeys(generator.permutation(fellows)[: self._per_speaker - 1].tolist())
        return list(drawn)[: self._group]


def draw_crops(
    whole: int, shortest: int, longest: int, *, generator: np.random.Generator
) -> Sequence[tuple[int, int]]:
    """Starts and lengths of two crops that do not overlap, each `shortest` to `longest` samples.

    Args:
        whole: samples of the recording, at least twice `shortest`.
        shortest: samples of a crop, at least.
        longest: samples of a crop, at most.
        generator: that draws them.
    """
    one = int(generator.integers(shortest, min(longest, whole - shortest) + 1))
    other = int(generator.integers(shortest, min(longest, whole - one) + 1))
    if generator.random() < 0.5:  # the one drawn last has less room
        one, other = other, one
    before, until = sorted(generator.integers(0, whole - one - other + 1, size=2).tolist())
    return (before, one), (until + one, other)
