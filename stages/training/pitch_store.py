"""The pitch of a training set's recordings, tracked once and kept in the run's folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.audio.pitch import import_world, tracking_team
from stages.errors import RowFailure

PITCH_NAME = "pitch.f32"
LENGTHS_NAME = "lengths.i64"
POINT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class PitchStore:
    """Pitches of utterance i are `offsets[i]` to `offsets[i + 1]`."""

    pitch: NDArray[np.float32]
    """`[S]` Hz, 0 where there is no voice, all utterances' one after the other."""

    offsets: NDArray[np.int64]
    """`[N + 1]`."""

    hop: int
    """Samples from one point to the next; the first lies on the first sample."""

    def slice(self, example: int, start: int, length: int) -> NDArray[np.float32]:
        """Pitch of a window, a copy: its points that are known, at most `[ceil(length / hop)]`.

        Args:
            example: the utterance.
            start: samples, a multiple of the hop.
            length: samples.
        """
        first = int(self.offsets[example]) + start // self.hop
        last = min(first - (-length // self.hop), int(self.offsets[example + 1]))
        return self.pitch[first:last].copy()


def build_pitch_store(
    paths: list[str],
    folder: Path,
    *,
    sample_rate: int,
    hop: int,
    lowest: float,
    highest: float,
    workers: int,
    warn: Callable[[str], None],
) -> PitchStore:
    """Track the pitch of files in worker processes, but of those that `folder` has already.

    What was found is kept file by file, so that an interrupted run goes on where it was. Files
    that cannot be read have none.

    Args:
        paths: the files.
        folder: for what is found.
        sample_rate: Hz that they are read at.
        hop: samples from one point to the next.
        lowest: Hz, of what is looked for.
        highest: Hz, likewise.
        workers: processes that track; there is one at least.
        warn: takes a sentence for the user.

    Raises:
        StageFailure: if pyworld is not installed, or a process dies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / PITCH_NAME).open("a+b") as pitch, (folder / LENGTHS_NAME).open("a+b") as lengths:
        known = np.fromfile(folder / LENGTHS_NAME, np.int64)
        # A killed run may have left what it wrote last without its length, or half of that.
        pitch.truncate(int(known.sum()) * POINT_BYTES)
        lengths.truncate(known.nbytes)
        if rest := paths[len(known) :]:
            import_world()  # before any process is started
            warn(
                f"tracking the pitch of {len(rest)} recordings, once for this run: about a quarter "
                "of their length on a core"
            )
            team = tracking_team(
                sample_rate, seconds=hop / sample_rate, lowest=lowest, highest=highest
            )
            try:
                for _, found in team.map(rest, workers=max(1, workers)):
                    points = np.empty(0, np.float32) if isinstance(found, RowFailure) else found
                    pitch.write(points.tobytes())
                    pitch.flush()
                    lengths.write(np.int64(len(points)).tobytes())
                    lengths.flush()
            finally:
                team.end()
    offsets = np.concatenate([[0], np.cumsum(np.fromfile(folder / LENGTHS_NAME, np.int64))])
    count = int(offsets[-1])
    values = np.empty(0, np.float32)
    if count:
        values = np.memmap(folder / PITCH_NAME, np.float32, "r", shape=(count,))
    return PitchStore(pitch=values, offsets=offsets.astype(np.int64), hop=hop)
