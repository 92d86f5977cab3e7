"""Samples between Fourier frames and mel bands: what Griffin-Lim and the source-filter share.

Fourier frames lie half as far apart as mel frames.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.audio.features import LogMel
from stages.codec.mel.config import MelGeometry

FINER = 2
"""Fourier frames a mel frame, where the hop can be divided so."""


def finer_frames(geometry: MelGeometry) -> int:
    """Fourier frames for each mel frame."""
    return 1 if geometry.hop % FINER else FINER


class MelBands(nn.Module):
    """Fourier frames whose sums over mel bands are to be given ones.

    T mel frames are T' = `finer_frames` x T + 2 Fourier frames: torch centres its frames on
    multiples of the hop and ours lie half a hop later, so there is one more on each side.
    """

    shares: Tensor

    def __init__(self, geometry: MelGeometry) -> None:
        super().__init__()
        self.geometry = geometry
        self.log_mel = LogMel(geometry.log_mel)
        self.hop = geometry.hop // finer_frames(geometry)
        self.edge = self.hop - self.hop // 2
        """Samples before the first that is wanted, half a hop after the first frame's centre."""
        filters = self.log_mel.filters  # [F, M]
        shares = filters / filters.sum(dim=1, keepdim=True).clamp_min(1e-8)
        self.register_buffer("shares", shares.T.contiguous(), persistent=False)  # [M, F]

    def of(self, mel: Tensor) -> Tensor:
        """Log-mel `[T, M]` to mel magnitudes `[T', M]`, frame t centred on sample t x hop."""
        bands = _interpolate(mel, finer_frames(self.geometry)).exp()
        return torch.cat([bands[:1], bands, bands[-1:]])

    def magnitudes(self, bands: Tensor) -> Tensor:
        """Fourier magnitudes `[F, T']` that are smooth over the bands `[T', M]`."""
        return (bands @ self.shares).T

    def transform(self, samples: Tensor) -> Tensor:
        """`[(T' - 1) x hop]` samples to their Fourier frames `[F, T']`."""
        return torch.stft(
            samples, self.geometry.window, self.hop, window=self.log_mel.window,
            pad_mode="constant", return_complex=True,
        )  # fmt: skip

    def invert(self, spectrum: Tensor) -> Tensor:
        """Fourier frames `[F, T']` to `[(T' - 1) x hop]` samples."""
        length = (spectrum.shape[1] - 1) * self.hop
        return torch.istft(
            spectrum, self.geometry.window, self.hop, window=self.log_mel.window, length=length
        )

    def scale(self, magnitudes: Tensor, bands: Tensor) -> Tensor:
        """Magnitudes `[F, T']`, scaled to about the bands `[T', M]`."""
        heard = magnitudes.T @ self.log_mel.filters  # [T', M]
        # Bounded, since where nothing is heard yet one turn cannot know what to raise.
        wanted = (bands / heard.clamp_min(1e-7)).clamp(1e-2, 1e2)
        return magnitudes * (wanted @ self.shares).T

    def inside(self, samples: Tensor, frames: int) -> Tensor:
        """Of `[(T' - 1) x hop]` samples those of T mel frames, `[T x hop]`."""
        return samples[self.edge : self.edge + frames * self.geometry.hop]


def absolute(values: Tensor) -> Tensor:
    """Of complex numbers, none of them huge; several times as fast as torch's on a CPU."""
    parts = torch.view_as_real(values)
    return torch.addcmul(parts[..., 0].square(), parts[..., 1], parts[..., 1]).sqrt_()


def times(values: Tensor, factor: Tensor) -> Tensor:
    """Complex numbers times real ones of the same shape; as fast."""
    return torch.view_as_complex(torch.view_as_real(values) * factor[..., None])


def each_row(make: Callable[[Tensor], Tensor], mel: Tensor, frames: Tensor, hop: int) -> Tensor:
    """Log-mel `[B, T, M]` with `[B]` frames to `[B, T x hop]`, each row for itself.

    Args:
        make: log-mel `[T, M]`, T at least 1, to `[T x hop]`.
        mel: the rows.
        frames: of each row.
        hop: samples of a frame.
    """
    samples = torch.zeros(len(mel), mel.shape[1] * hop, device=mel.device)
    for row, count, target in zip(mel, frames.tolist(), samples, strict=True):
        if count:
            made = make(row[:count])
            target[: len(made)] = made
    return samples


def _interpolate(mel: Tensor, finer: int) -> Tensor:
    """Frames `[T, M]` to `[T x finer, M]`, centred on equal parts of what each frame spans."""
    if finer == 1:
        return mel
    between = F.interpolate(mel.T[None], scale_factor=float(finer), mode="linear")
    return between[0].T
