"""A recording piece by piece, beside its log-mel frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stages.semantic.speaking import RecordedLevels, record
from stages.semantic.unit_search.config import UnitNetworkConfig
from stages.semantic.whisper_ear import WhisperMel

PIECE_SECONDS = 24
"""At once: with its margins and some silence it is less than Whisper hears."""

MARGIN_SECONDS = 2
"""Before and after a piece, done with it and not kept."""

Work = Callable[[Tensor, Tensor, RecordedLevels], Tensor]
"""From points `[T, dim]` of a piece, its scaled log-mel frames `[1, stack * T, mels]` and the whole
recording to `[T, ...]`."""


class Pieces:
    """Does a piece of a recording after the other."""

    def __init__(self, config: UnitNetworkConfig, device: torch.device) -> None:
        """Make ready for networks of this shape."""
        self._stack = config.stack
        self._size = int(PIECE_SECONDS * config.frame_rate)
        self._margin = int(MARGIN_SECONDS * config.frame_rate)
        self._mel = WhisperMel(config.mels).to(device)
        self._device = device

    def joined(
        self, samples: npt.NDArray[np.float32], frames: npt.NDArray[np.float32], work: Work
    ) -> npt.NDArray[np.generic]:
        """What `work` makes of a recording `[N]` and its frames `[T, dim]`: `[T, ...]`."""
        points = torch.from_numpy(frames).to(self._device)
        recorded = self.record(samples)
        levels = recorded.said(self._stack * len(points))
        made = [
            work(points[begin:end], levels[:, self._stack * begin : self._stack * end], recorded)[
                kept
            ]
            for begin, end, kept in self.spans(len(points))
        ]
        return torch.cat(made).cpu().numpy()

    def spans(self, count: int) -> Iterator[tuple[int, int, slice]]:
        """Of a recording of `count` points, as `pieces` says."""
        return pieces(count, size=self._size, margin=self._margin)

    def record(self, samples: npt.NDArray[np.float32]) -> RecordedLevels:
        """A recording `[N]` at the networks' rate."""
        sound = torch.from_numpy(samples).to(self._device)[None]
        return record(self._mel, sound, torch.tensor([len(samples)], device=self._device))


def pieces(count: int, *, size: int, margin: int) -> Iterator[tuple[int, int, slice]]:
    """Begin and end of each piece with its margins, and what of it is kept."""
    for start in range(0, count, size):
        stop = min(start + size, count)
        begin, end = max(0, start - margin), min(count, stop + margin)
        yield begin, end, slice(start - begin, stop - begin)
