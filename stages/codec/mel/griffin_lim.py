"""Magnitudes to samples without training: Griffin-Lim (1984), its fast variant (2013)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.audio.features import LogMel
from stages.codec.mel.config import MelGeometry

ITERATIONS = 60
MOMENTUM = 0.99
INVERSION_STEPS = 50
SEED = 0
"""Of the first phases: the same frames always give the same samples."""


def find_phases(magnitudes: Tensor, *, window: Tensor, hop: int, iterations: int) -> Tensor:
    """Samples whose short-time Fourier transform has about the given magnitudes.

    Args:
        magnitudes: `[T, fft / 2 + 1]`; frame t is centred on samples [t x hop, (t + 1) x hop).
        window: `[fft]`.
        hop: samples from one frame to the next.
        iterations: of fast Griffin-Lim.

    Returns:
        `[T x hop]`; the same magnitudes always give the same samples.
    """
    from torchaudio.functional import griffinlim

    T, fft = len(magnitudes), len(window)
    # torchaudio centres its frames on multiples of the hop, and ours lie half a hop later: one
    # more frame on each side, and the samples from half a hop after its centre.
    padded = torch.cat([magnitudes[:1], magnitudes, magnitudes[-1:]])  # [T + 2, F]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        samples: Tensor = griffinlim(
            padded.T,
            window=window,
            n_fft=fft,
            hop_length=hop,
            win_length=fft,
            power=1.0,
            n_iter=iterations,
            momentum=MOMENTUM,
            length=(T + 1) * hop,
            rand_init=True,
        )
    start = hop - hop // 2
    return samples[start : start + T * hop]


class GriffinLim(nn.Module):
    """Finds phases that agree with the magnitudes under log-mel frames."""

    def __init__(self, geometry: MelGeometry) -> None:
        super().__init__()
        self.geometry = geometry
        self.log_mel = LogMel(geometry.log_mel)

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
        return find_phases(
            self._magnitudes(mel.exp()),
            window=self.log_mel.window,
            hop=self.geometry.hop,
            iterations=ITERATIONS,
        )

    def _magnitudes(self, mel: Tensor) -> Tensor:
        """Linear mel bands `[T, M]` to Fourier magnitudes `[T, F]`, never negative.

        Multiplicative updates of least squares (Lee and Seung, 2001) from the filters' transpose.
        """
        filters = self.log_mel.filters  # [F, M]
        found = mel @ filters.T
        target = found
        overlap = filters @ filters.T  # [F, F]
        for _ in range(INVERSION_STEPS):
            found = found * target / (found @ overlap).clamp_min(1e-12)
        return found
