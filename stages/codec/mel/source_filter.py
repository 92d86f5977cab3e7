"""A voice's pulses and noise, shaped to mel frames: sound with harmonics in a few turns.

The source-filter vocoder is as old as Dudley's (1939). Here the filter is the mel frames, and a
network tells the pitch from them (`pitch.py`), since pitch is what Griffin-Lim lacks: mel bands
from about 1 kHz on are wider than the distance of a voice's harmonics, and no number of turns finds
where within a band they lie. Pulses of the right pitch say it from the start. Then a few turns of
Griffin-Lim (`griffin_lim.py`) settle the phases, but not at the bottom of a voice of sure pitch,
where turns only wear off what the pulses had. `docs/vocoding.md` says what each is worth.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.codec.mel.config import SourceFilterConfig
from stages.codec.mel.convnext import frame_mask
from stages.codec.mel.mel_bands import MelBands, absolute, each_row, times
from stages.codec.mel.pitch import POINTS, PitchNetwork
from stages.codec.mel.postfilter import postfilter

BREATHY = 4_000.0
"""Hz, where a voice's noise has half of its amplitude (WORLD measures it; here every voice is
alike)."""

BREATHY_WIDTH = 500.0
"""Hz, of the logistic curve by which it grows."""

SURE_OF_VOICE = 2.0
"""What the logits that there is a voice are multiplied by: noise where it is half sure is heard."""

SURE_OF_PITCH = 3.0
"""The power of the probability of a pitch, by which a voice is kept in each turn: a wrong one is
better turned away."""

SOURCE_SCALINGS = 2
"""Of pulses and noise to the frames before the turns: how far one scales is bounded."""

TURNS = 12
"""Of Griffin-Lim."""

KEPT = 1_000.0
"""Hz, below which a voice stays in each turn what its pulses were, where its pitch is sure."""

KEPT_WIDTH = 150.0
"""Hz, of the logistic curve by which that ends."""

SEED = 0
"""Of the noise: the same frames always give the same samples."""

FORM = (
    BREATHY, BREATHY_WIDTH, SURE_OF_VOICE, SURE_OF_PITCH, SOURCE_SCALINGS, TURNS, KEPT, KEPT_WIDTH,
    SEED,
)  # fmt: skip
"""What else than weights decides how the same frames sound, for fingerprints."""


class SourceFilter(nn.Module):
    """T frames give T x hop samples. It filters the frames first (`postfilter.py`)."""

    breath: Tensor
    kept: Tensor

    def __init__(self, config: SourceFilterConfig) -> None:
        super().__init__()
        self.config = config
        self.pitch = PitchNetwork(config)
        self.bands = MelBands(config.geometry)
        bins = torch.arange(config.window // 2 + 1) * config.sample_rate / config.window
        breath = torch.sigmoid((bins - BREATHY) / BREATHY_WIDTH).square()
        self.register_buffer("breath", breath[:, None], persistent=False)  # [F, 1]
        kept = torch.sigmoid((KEPT - bins) / KEPT_WIDTH)
        self.register_buffer("kept", kept[:, None], persistent=False)  # [F, 1]

    @torch.no_grad()
    def forward(self, mel: Tensor, frames: Tensor) -> Tensor:
        """Log-mel `[B, T, M]` with `[B]` frames to samples `[B, T x hop]`, each row for itself."""
        return each_row(self._one, mel, frames, self.config.hop)

    def _one(self, mel: Tensor) -> Tensor:
        """Log-mel `[T, M]` to samples `[T x hop]`."""
        T = len(mel)
        logits, voicing = self.pitch(mel[None], frame_mask(torch.tensor([T]), T).to(mel))
        bands = self.bands.of(postfilter(mel))  # [T', M]
        voiced = self._over((SURE_OF_VOICE * voicing[0]).sigmoid(), len(bands))
        sure = self._over(self.pitch.sureness(logits[0]) ** SURE_OF_PITCH, len(bands))
        source = self._source(self.pitch.pitch(logits[0]), voiced)
        for _ in range(SOURCE_SCALINGS):
            source = self._scaled(source, bands)
        kept = voiced * sure * self.kept  # [F, T']
        below, turned, spectrum = times(source, kept), 1 - kept, source
        for _ in range(TURNS):
            heard = self._scaled(self.bands.transform(self.bands.invert(spectrum)), bands)
            spectrum = times(heard, turned) + below
        return self.bands.inside(self.bands.invert(spectrum), T)

    def _over(self, points: Tensor, count: int) -> Tensor:
        """`[P]` values, half a hop apart, at T' = `count` Fourier frames, `[T']`."""
        samples = torch.arange(count, device=points.device) * self.bands.hop - self.bands.edge
        return self._at(points, samples).to(points)

    def _source(self, pitch: Tensor, voiced: Tensor) -> Tensor:
        """Pulses and noise, `[F, T']`, from `[P]` Hz and `[T']` probabilities of a voice."""
        length = (len(voiced) - 1) * self.bands.hop
        samples = torch.arange(length, device=pitch.device) - self.bands.edge
        generator = torch.Generator().manual_seed(SEED)
        noise = torch.randn(length, generator=generator).to(pitch)
        pulses = _pulses(self._at(pitch, samples), self.config.sample_rate).to(pitch)
        share = voiced * (1 - self.breath)  # [F, T']
        return times(self.bands.transform(pulses), share.sqrt()) + times(
            self.bands.transform(noise), (1 - share).sqrt()
        )

    def _at(self, points: Tensor, samples: Tensor) -> Tensor:
        """`[P]` values, half a hop apart, at samples `[N]`, in double precision."""
        place = samples.double() * POINTS / self.config.hop
        place = place.clamp(0, len(points) - 1)
        before = place.long().clamp_max(len(points) - 2)
        return points.double()[before].lerp(points.double()[before + 1], place - before)

    def _scaled(self, spectrum: Tensor, bands: Tensor) -> Tensor:
        """`[F, T']` with magnitudes scaled to the bands `[T', M]`."""
        magnitudes = absolute(spectrum)
        return times(spectrum, self.bands.scale(magnitudes, bands) / magnitudes.clamp_min(1e-9))


def _pulses(pitch: Tensor, sample_rate: int) -> Tensor:
    """Harmonics of equal strength up to half the sample rate, `[N]` of power 1, from Hz `[N]`."""
    turns = (pitch / sample_rate).cumsum(0)
    count = (0.494 * sample_rate / pitch).floor()
    # The sum of cos(2 pi k turns) over k from 1 to count (Dirichlet's kernel).
    half = torch.sin(torch.pi * turns)
    everything = torch.sin(torch.pi * (2 * count + 1) * turns)
    whole = half.abs() < 1e-9
    sums = torch.where(whole, count, (everything / half.masked_fill(whole, 1) - 1) / 2)
    return sums * (2 / count).sqrt()
