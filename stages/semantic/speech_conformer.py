"""A Conformer over stacked, normalised log-mel frames: what the toolkit's own encoders share."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.audio.features import LogMel, LogMelConfig
from stages.errors import DataMismatch
from stages.nn.config_json import JsonConfig
from stages.nn.conformer import Conformer, ConformerConfig, padding_mask


@dataclass(frozen=True, kw_only=True)
class SpeechConformerConfig(JsonConfig):
    """Shape of the network, and of the spans that training masks."""

    layers: int
    """Conformer blocks."""

    heads: int
    """Attention heads."""

    width: int
    """D, width of the Conformer."""

    feed_forward: int
    """Inner width of the feed-forward modules."""

    kernel: int = 5
    """Frames that the depthwise convolution sees."""

    dropout: float = 0.1

    sample_rate: int = 16_000
    """Hz."""

    mels: int = 80
    """Bands of a log-mel frame of 10 ms."""

    stack: int = 4
    """Log-mel frames to one frame of the network: 4 give 25 Hz, 2 give 50 Hz."""

    mask_probability: float = 0.04
    """That a masked span begins at a frame: 0.01 for each 10 ms."""

    mask_seconds: float = 0.4
    """Length of a masked span; spans may overlap."""

    noise: float = 0.1
    """Standard deviation of what stands in a masked span."""

    utterance_norm: bool = True
    """Whether each band of each utterance comes in with mean 0 and deviation 1. That hides the
    loudness, the microphone and the room from what should hear words alone. False is for what
    should hear them too: all bands of all utterances are scaled alike."""

    def __post_init__(self) -> None:
        if min(self.mels, self.stack) < 1:
            raise DataMismatch("a speech Conformer needs at least one band and one frame")
        if not 0 < self.mask_probability < 1 or self.mask_frames < 1:
            raise DataMismatch(
                f"masked spans of {self.mask_seconds} s that begin with probability "
                f"{self.mask_probability} cannot be drawn: use a probability between 0 and 1 and "
                f"at least {float(1 / self.frame_rate)} s"
            )
        _ = self.conformer, self.mel  # checks the rest

    @property
    def conformer(self) -> ConformerConfig:
        return ConformerConfig.of(self)

    @property
    def mel(self) -> LogMelConfig:
        hop = self.sample_rate // 100
        return LogMelConfig(
            sample_rate=self.sample_rate,
            hop=hop,
            window=5 * hop // 2,  # 25 ms
            fft=1 << (5 * hop // 2 - 1).bit_length(),
            mels=self.mels,
        )

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second of the network, exact."""
        return Fraction(self.sample_rate, self.sample_rate // 100 * self.stack)

    @property
    def mask_frames(self) -> int:
        """Frames of a masked span."""
        return round(self.mask_seconds * self.frame_rate)


LOG_MEL_MEAN, LOG_MEL_DEVIATION = -7.0, 2.5
"""In nats: about those of all bands of clean speech, where no utterance is normalised."""


class SpeechConformer(nn.Module):
    """Features, an input layer and the Conformer; training adds a head."""

    def __init__(self, config: SpeechConformerConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = LogMel(config.mel)
        self.input = nn.Linear(config.stack * config.mels, config.width)
        self.conformer = Conformer(config.conformer)

    def frames(self, lengths: Tensor) -> Tensor:
        """Frames of utterances of `lengths` samples: `[B]`, rounded up."""
        return -(-self.mel.frames(lengths) // self.config.stack)

    def features(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled, stacked log-mel frames, as the network reads them.

        Args:
            samples: `[B, N]` float32 at `sample_rate`.
            lengths: `[B]` int64, samples of each row.

        Returns:
            `[B, T, stack * mels]`, zero past a row's length, and `[B]` frames of each row.
        """
        bands, counts = self.mel(samples, lengths)
        stacked = self.stacked(bands, counts, normalise=self.config.utterance_norm)
        return stacked, self.frames(lengths)

    def stacked(self, bands: Tensor, counts: Tensor, *, normalise: bool) -> Tensor:
        """Scale log-mel frames and stack them to the network's rate.

        Args:
            bands: `[B, T', mels]`, in nats.
            counts: `[B]` int64, frames of each row.
            normalise: each band of each utterance to mean 0 and deviation 1, or all alike.

        Returns:
            `[B, T, stack * mels]`, zero past a row's length.
        """
        inside = torch.arange(bands.shape[1], device=bands.device) < counts[:, None]
        inside = inside[..., None]  # [B, T', 1]
        if normalise:
            total = counts[:, None, None]
            mean = (bands * inside).sum(dim=1, keepdim=True) / total
            bands = (bands - mean) * inside
            deviation = (bands.square().sum(dim=1, keepdim=True) / total).sqrt()
            bands = bands / deviation.clamp_min(1e-3)
        else:
            bands = (bands - LOG_MEL_MEAN) / LOG_MEL_DEVIATION * inside
        bands = F.pad(bands, (0, 0, 0, -bands.shape[1] % self.config.stack))
        B, T, M = bands.shape
        return bands.reshape(B, T // self.config.stack, self.config.stack * M)

    def forward(self, features: Tensor, lengths: Tensor, *, layer: int | None = None) -> Tensor:
        """Run the Conformer: `[B, T, stack * mels]`, `[B]` frames to `[B, T, D]`.

        Stops after `layer` blocks (1-based) where given.
        """
        mask = padding_mask(lengths, features.shape[1])
        hidden: Tensor = self.conformer(self.input(features), mask, layers=layer)
        return hidden

    def encode(self, samples: Tensor, lengths: Tensor, *, layer: int) -> tuple[Tensor, Tensor]:
        """Frames after `layer` blocks (1-based): `[B, N]` to `[B, T, D]` and `[B]` frames."""
        features, counts = self.features(samples, lengths)
        return self(features, counts, layer=layer), counts


def draw_spans(
    lengths: Tensor, config: SpeechConformerConfig, generator: torch.Generator
) -> Tensor:
    """Which frames are masked.

    Args:
        lengths: `[B]` int64 on the CPU, frames of each row.
        config: says how often and how long.
        generator: a CPU generator.

    Returns:
        `[B, T]` bool, T the longest length; never true past a row's own.
    """
    T = int(lengths.max())
    begins = torch.rand(len(lengths), T, generator=generator) < config.mask_probability
    ends = F.pad(begins.long(), (config.mask_frames, 0))[:, :T]
    running = (begins.long() - ends).cumsum(dim=1)  # spans that cover each frame
    return (running > 0) & (torch.arange(T) < lengths[:, None])
