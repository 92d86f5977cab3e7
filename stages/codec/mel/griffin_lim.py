"""Log-mel frames to samples without training: Griffin-Lim with magnitudes that are not fixed.

Griffin and Lim (1984) go back and forth between samples and a short-time Fourier transform whose
magnitudes are known. Under mel frames they are not: guessed once, they fit no waveform, and the
phases cannot mend that. Here each turn keeps the magnitudes that the samples have and only scales
them to the bands' sums, so that what lies within a band (harmonics above all) settles together
with the phases. Finding both together is Masuyama, Ueda and Ono's (2023), by proximal splitting.
Fourier frames lie half as far apart as mel frames. With the momentum of the fast variant
(Perraudin, Balazs and Søndergaard, 2013). `docs/models.md` says what each is worth.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.audio.features import LogMel
from stages.codec.mel.config import MelGeometry

ITERATIONS = 60
MOMENTUM = 0.99
FINER = 2
"""Fourier frames a mel frame, where the hop can be divided so."""

SEED = 0
"""Of the first phases: the same frames always give the same samples."""


def finer_frames(geometry: MelGeometry) -> int:
    """Fourier frames that Griffin-Lim has for each mel frame."""
    return 1 if geometry.hop % FINER else FINER


class GriffinLim(nn.Module):
    """Finds samples whose mel frames are about the given ones."""

    shares: Tensor

    def __init__(self, geometry: MelGeometry) -> None:
        super().__init__()
        self.geometry = geometry
        self.log_mel = LogMel(geometry.log_mel)
        filters = self.log_mel.filters  # [F, M]
        shares = filters / filters.sum(dim=1, keepdim=True).clamp_min(1e-8)
        self.register_buffer("shares", shares.T.contiguous(), persistent=False)  # [M, F]

    @torch.no_grad()
    def forward(self, mel: Tensor, frames: Tensor) -> Tensor:
        """Log-mel `[B, T, M]` with `[B]` frames to samples `[B, T x hop]`, each row for itself."""
        samples = torch.zeros(len(mel), mel.shape[1] * self.geometry.hop, device=mel.device)
        for row, count, target in zip(mel, frames.tolist(), samples, strict=True):
            if count:
                made = self._one(row[:count])
                target[: len(made)] = made
        return samples

    def _one(self, mel: Tensor) -> Tensor:
        """Log-mel `[T, M]` to samples `[T x hop]`."""
        finer = finer_frames(self.geometry)
        hop = self.geometry.hop // finer
        bands = _interpolate(mel, finer).exp()  # [T', M]
        # torch centres its frames on multiples of the hop, and ours lie half a hop later: one
        # more frame on each side, and the samples from half a hop after the first one's centre.
        bands = torch.cat([bands[:1], bands, bands[-1:]])
        samples = self._find(bands, hop)
        start = hop - hop // 2
        return samples[start : start + len(mel) * self.geometry.hop]

    def _find(self, bands: Tensor, hop: int) -> Tensor:
        """Mel magnitudes `[T', M]`, frame t centred on sample t x hop, to `[(T' - 1) x hop]`."""
        fft, window = self.geometry.window, self.log_mel.window
        length = (len(bands) - 1) * hop
        magnitudes = (bands @ self.shares).T  # [F, T']
        generator = torch.Generator().manual_seed(SEED)
        turns = torch.rand(magnitudes.shape, generator=generator).to(magnitudes)
        spectrum = torch.polar(magnitudes, 2 * torch.pi * turns)
        before = torch.zeros_like(spectrum)
        for _ in range(ITERATIONS):
            samples = torch.istft(spectrum, fft, hop, window=window, length=length)
            heard = torch.stft(
                samples, fft, hop, window=window, pad_mode="constant", return_complex=True
            )
            magnitudes = self._scale(_absolute(heard), bands)
            ahead = heard - MOMENTUM / (1 + MOMENTUM) * before
            factor = magnitudes / _absolute(ahead).clamp_min(1e-16)
            spectrum = torch.view_as_complex(torch.view_as_real(ahead) * factor[..., None])
            before = heard
        return torch.istft(spectrum, fft, hop, window=window, length=length)

    def _scale(self, magnitudes: Tensor, bands: Tensor) -> Tensor:
        """Magnitudes `[F, T']`, scaled to about the bands `[T', M]`."""
        heard = magnitudes.T @ self.log_mel.filters  # [T', M]
        # Bounded, since where nothing is heard yet one turn cannot know what to raise.
        wanted = (bands / heard.clamp_min(1e-7)).clamp(1e-2, 1e2)
        return magnitudes * (wanted @ self.shares).T


def _absolute(values: Tensor) -> Tensor:
    """Of complex numbers, none of them huge; several times as fast as torch's on a CPU."""
    parts = torch.view_as_real(values)
    return torch.addcmul(parts[..., 0].square(), parts[..., 1], parts[..., 1]).sqrt_()


def _interpolate(mel: Tensor, times: int) -> Tensor:
    """Frames `[T, M]` to `[T x times, M]`, centred on equal parts of what each frame spans."""
    if times == 1:
        return mel
    finer = F.interpolate(mel.T[None], scale_factor=float(times), mode="linear")
    return finer[0].T
