"""The encoder that needs no weights: cepstra of a log-mel spectrogram, made alike over speakers.

Nearest to the features of HuBERT's first iteration (Hsu et al. 2021: 13 cepstra with first and
second differences), with three changes that make k-means units of it more phonetic and less
about who speaks where: levels far under the utterance's own loudness are cut (one silence,
whatever the noise in it), mean and variance are those of the utterance's louder frames alone
(channel, and much of the vocal tract, drop out; pauses do not count), and higher cepstra and
differences weigh less.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from stages.audio.features import LogMel, LogMelConfig
from stages.errors import DataMismatch
from stages.semantic.base import Frames, SemanticEncoder
from stages.shards.provenance import hash_json

_VERSION = 1
"""Part of the fingerprint: raise it with any change to the numbers below or the code."""


@dataclass(frozen=True, kw_only=True)
class LogMelEncoderConfig:
    """Settings of the log-mel encoder; the defaults are the baseline."""

    mels: int = 40
    """Mel bands from 60 to 7600 Hz."""

    cepstra: int = 13
    """Coefficients kept of the cosine transform over the bands; the first is loudness."""

    dynamic_range: float = 6.0
    """Nepers (natural log of magnitude) under the loud frames at which levels are cut; 52 dB."""

    delta_weights: tuple[float, float] = (1.0, 0.7)
    """Weight of first and second differences against the cepstra themselves."""

    def __post_init__(self) -> None:
        if not 2 <= self.cepstra <= self.mels:
            raise DataMismatch(
                f"{self.cepstra} cepstra cannot be had of {self.mels} mel bands: use 2 to as many"
            )


class LogMelEncoder(SemanticEncoder):
    """Waveforms at 16 kHz to `3 * cepstra` numbers at 50 Hz."""

    def __init__(
        self,
        config: LogMelEncoderConfig = LogMelEncoderConfig(),
        *,
        device: str = "cpu",
    ) -> None:
        self.name = "logmel"
        self.config = config
        self.sample_rate = 16_000
        self.dim = 3 * config.cepstra
        self.fingerprint = hash_json(["logmel", _VERSION, asdict(config)])
        # 100 frames a second, averaged in pairs at the end: differences need the finer grid.
        mel = LogMelConfig(hop=160, window=400, fft=512, mels=config.mels, low=60.0, high=7600.0)
        self.frame_rate = Fraction(mel.sample_rate, 2 * mel.hop)
        self._mel = LogMel(mel).to(device)
        self._cosines = cosine_transform(config.mels, config.cepstra).to(device)
        self._device = torch.device(device)

    @torch.inference_mode()
    def encode(self, samples: Tensor, lengths: Tensor) -> Frames:
        """Encode `[B, N]` into `[B, T, 3 * cepstra]` with T = ceil(N / 320)."""
        with one_thread():
            return self._encode(samples, lengths)

    def _encode(self, samples: Tensor, lengths: Tensor) -> Frames:
        bands, fine_lengths = self._mel(samples.to(self._device), lengths.to(self._device))
        counts = (fine_lengths + 1) // 2  # [B], frames of 20 ms
        values = bands.new_zeros(len(bands), int(counts.max()), self.dim)
        # Row by row: statistics are a row's own, and a row's numbers must not know its batch.
        for index, (length, count) in enumerate(
            zip(fine_lengths.tolist(), counts.tolist(), strict=True)
        ):
            values[index, :count] = self._features(bands[index, :length])
        return Frames(values=values, lengths=counts)

    def _features(self, bands: Tensor) -> Tensor:
        """One utterance: `[T, mels]` log magnitudes at 100 Hz to `[ceil(T / 2), 3 * cepstra]`."""
        loudness = bands.mean(dim=1)  # [T]
        loud = loudness.quantile(0.95)
        bands = bands.clamp_min(loud - self.config.dynamic_range)
        speech = loudness >= loud - self.config.dynamic_range / 2  # [T], never all False
        cepstra = bands @ self._cosines  # [T, cepstra]
        first = slope(cepstra)
        both = torch.cat([cepstra, first, slope(first)], dim=1)  # [T, 3 * cepstra]
        mean = both[speech].mean(dim=0)
        deviation = both[speech].std(dim=0, correction=0).clamp_min(1e-2)
        both = (both - mean) / deviation * self._weights(both)
        if len(both) % 2:
            both = torch.cat([both, both[-1:]])
        return both.reshape(len(both) // 2, 2, -1).mean(dim=1)  # pairs of 10 ms to 20 ms

    def _weights(self, like: Tensor) -> Tensor:
        count = self.config.cepstra
        # Higher cepstra carry pitch and noise rather than the vowel.
        taper = torch.linspace(1.0, 0.5, count, device=like.device)
        first, second = self.config.delta_weights
        return torch.cat([taper, first * taper, second * taper])


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: on operations this small, threads wait on each other (18 times
    slower on a busy machine of two cores, no faster on an idle one)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def cosine_transform(bands: int, count: int) -> Tensor:
    """The first `count` cosines of the orthonormal DCT-II, `[bands, count]`."""
    centres = (np.arange(bands) + 0.5) / bands
    cosines = np.cos(np.pi * centres[:, None] * np.arange(count)) * np.sqrt(2 / bands)
    cosines[:, 0] /= np.sqrt(2)
    return torch.from_numpy(cosines).float()


def slope(values: Tensor, reach: int = 3) -> Tensor:
    """Least-squares slope over `2 * reach + 1` frames of `[T, D]`, the ends repeated."""
    padded = torch.cat([values[:1].expand(reach, -1), values, values[-1:].expand(reach, -1)])
    total = torch.zeros_like(values)
    for offset in range(1, reach + 1):
        ahead = padded[reach + offset : reach + offset + len(values)]
        behind = padded[reach - offset : reach - offset + len(values)]
        total += offset * (ahead - behind)
    return total / (2 * sum(offset**2 for offset in range(1, reach + 1)))
