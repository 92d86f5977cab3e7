"""Frames for k-means under a memory bound: an even sample in memory, everything on disk."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from stages.errors import StageFailure

Frames = npt.NDArray[np.float32]

_SLACK = 0.25
"""Of the sample's size: room for newcomers before the worst are thrown out."""


def row_random(seed: int, row_id: str) -> np.random.Generator:
    """A generator of a row's own, the same in whatever order rows are visited."""
    digest = hashlib.sha256(f"{seed}/{row_id}".encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


class FramePool:
    """Takes any number of frames; keeps an even random sample of those that fit in memory.

    Every frame draws a random key from its row's own generator, and the lowest keys stay: a
    reservoir that is the same in whatever order the rows come. Once there are more than fit, all
    of them go to a file too, which later passes read in blocks.
    """

    def __init__(self, dim: int, *, capacity: int, seed: int, scratch: Path | None = None) -> None:
        """Make an empty pool.

        Args:
            dim: D of the frames.
            capacity: most frames in memory.
            seed: of the sample.
            scratch: folder for the file of all frames; None for the system's.
        """
        self.total = 0
        """Frames taken."""
        self._capacity = capacity
        self._seed = seed
        self._scratch = scratch
        self._dim = dim
        self._frames: Frames = np.empty((0, dim), np.float32)
        self._keys = np.empty(0, np.float64)
        self._held = 0
        self._spill: tempfile._TemporaryFileWrapper[bytes] | None = None

    @property
    def overflowed(self) -> bool:
        """Whether there are more frames than memory takes."""
        return self._spill is not None

    def add(self, row_id: str, frames: Frames) -> None:
        """Take one row's frames, `[T, D]`.

        Raises:
            StageFailure: if the file of all frames cannot be written.
        """
        keys = row_random(self._seed, row_id).random(len(frames))
        self.total += len(frames)
        with self._writing():
            if self._spill is None and self.total > self._capacity:
                self._spill = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed by `close`
                    dir=self._scratch, prefix="frames-", suffix=".tmp"
                )
                self._spill.write(self._frames[: self._held].tobytes())
            if self._spill is not None:
                self._spill.write(frames.tobytes())
        room = max(self._capacity + 1, int(self._capacity * (1 + _SLACK)))
        while len(frames):
            taken = min(len(frames), room - self._held)
            self._reserve(self._held + taken, room)
            self._frames[self._held : self._held + taken] = frames[:taken]
            self._keys[self._held : self._held + taken] = keys[:taken]
            self._held += taken
            frames, keys = frames[taken:], keys[taken:]
            if self._held == room:
                self._throw_out()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StageFailure(
                f"frames that do not fit in memory cannot be written to "
                f"{self._scratch or tempfile.gettempdir()} ({error.strerror or error}): make room "
                "there, or allow more memory"
            ) from error

    def _reserve(self, wanted: int, room: int) -> None:
        """Grow by doubling, so that little data takes little memory."""
        if wanted <= len(self._keys):
            return
        size = min(room, max(wanted, 2 * len(self._keys), 4096))
        self._frames.resize((size, self._dim), refcheck=False)
        self._keys.resize(size, refcheck=False)

    def _throw_out(self) -> None:
        """Keep the lowest `capacity` keys, moving as little as can be."""
        if self._held <= self._capacity:
            return
        order = np.argpartition(self._keys[: self._held], self._capacity - 1)
        kept = order[: self._capacity]
        holes = np.setdiff1d(np.arange(self._capacity), kept, assume_unique=True)
        movers = kept[kept >= self._capacity]
        self._frames[holes] = self._frames[movers]
        self._keys[holes] = self._keys[movers]
        self._held = self._capacity

    def sample(self) -> Frames:
        """The sample, `[min(total, capacity), D]`, in the order of its keys."""
        self._throw_out()
        return self._frames[np.argsort(self._keys[: self._held], kind="stable")]

    def blocks(self, size: int, random: np.random.Generator | None = None) -> Iterator[Frames]:
        """All frames in blocks `[at most size, D]`, in a random order of blocks where given."""
        if self._spill is None:
            every: Frames = self._frames[: self._held]
        else:
            with self._writing():
                self._spill.flush()
            every = np.memmap(self._spill.name, np.float32, mode="r", shape=(self.total, self._dim))
        starts = np.arange(0, len(every), size)
        if random is not None:
            random.shuffle(starts)
        for start in starts:
            yield np.array(every[start : start + size])

    def close(self) -> None:
        """Remove the file."""
        if self._spill is not None:
            with suppress(OSError):  # what a full disk did not take is of no use any more
                self._spill.close()

    def __enter__(self) -> FramePool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
