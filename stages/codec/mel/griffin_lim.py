"""Log-mel frames to samples without training: Griffin-Lim with magnitudes that are not fixed.

Griffin and Lim (1984) go back and forth between samples and a short-time Fourier transform whose
magnitudes are known. Under mel frames they are not: guessed once, they fit no waveform, and the
phases cannot mend that. Here each turn keeps the magnitudes that the samples have and only scales
them to the bands' sums, so that what lies within a band (harmonics above all) settles together
with the phases. Finding both together is Masuyama, Ueda and Ono's (2023), by proximal splitting.
With the momentum of the fast variant (Perraudin, Balazs and Søndergaard, 2013). `docs/vocoding.md`
says what each is worth.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.codec.mel.config import MelGeometry
from stages.codec.mel.mel_bands import MelBands, absolute, each_row, times

ITERATIONS = 60
MOMENTUM = 0.99

SEED = 0
"""Of the first phases: the same frames always give the same samples."""


class GriffinLim(nn.Module):
    """Finds samples whose mel frames are about the given ones."""

    def __init__(self, geometry: MelGeometry) -> None:
        super().__init__()
        self.geometry = geometry
        self.bands = MelBands(geometry)

    @torch.no_grad()
    def forward(self, mel: Tensor, frames: Tensor) -> Tensor:
        """Log-mel `[B, T, M]` with `[B]` frames to samples `[B, T x hop]`, each row for itself."""
        return each_row(self._one, mel, frames, self.geometry.hop)

    def _one(self, mel: Tensor) -> Tensor:
        """Log-mel `[T, M]` to samples `[T x hop]`."""
        return self.bands.inside(self._find(self.bands.of(mel)), len(mel))

    def _find(self, bands: Tensor) -> Tensor:
        """Mel magnitudes `[T', M]` to `[(T' - 1) x hop]` samples."""
        magnitudes = self.bands.magnitudes(bands)  # [F, T']
        generator = torch.Generator().manual_seed(SEED)
        turns = torch.rand(magnitudes.shape, generator=generator).to(magnitudes)
        spectrum = torch.polar(magnitudes, 2 * torch.pi * turns)
        before = torch.zeros_like(spectrum)
        for _ in range(ITERATIONS):
            heard = self.bands.transform(self.bands.invert(spectrum))
            magnitudes = self.bands.scale(absolute(heard), bands)
            ahead = heard - MOMENTUM / (1 + MOMENTUM) * before
            spectrum = times(ahead, magnitudes / absolute(ahead).clamp_min(1e-16))
            before = heard
        return self.bands.invert(spectrum)
