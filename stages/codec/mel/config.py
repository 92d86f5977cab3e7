"""Shapes of the mel codec and of its vocoder."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from stages.audio.features import LogMelConfig
from stages.errors import DataMismatch
from stages.nn.config_json import JsonConfig


@dataclass(frozen=True, kw_only=True)
class MelGeometry(JsonConfig):
    """The log-mel frames on which codec and vocoder must agree."""

    sample_rate: int = 16_000
    """Hz."""

    hop: int = 320
    """Samples of a frame: 50 frames a second, as the paper's codec has (section 4.1)."""

    window: int = 1024
    """Samples of the analysis window, and of its Fourier transform."""

    mels: int = 100
    """Bands. With these and Griffin-Lim alone nearly every word survives."""

    def __post_init__(self) -> None:
        _ = self.log_mel  # checks all of them

    @property
    def log_mel(self) -> LogMelConfig:
        return LogMelConfig(
            sample_rate=self.sample_rate,
            hop=self.hop,
            window=self.window,
            fft=self.window,
            mels=self.mels,
        )

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second, exact."""
        return Fraction(self.sample_rate, self.hop)

    @property
    def geometry(self) -> MelGeometry:
        """This part of a larger configuration."""
        return MelGeometry(
            sample_rate=self.sample_rate, hop=self.hop, window=self.window, mels=self.mels
        )


@dataclass(frozen=True, kw_only=True)
class MelCodecConfig(MelGeometry):
    """A residual quantiser of log-mel frames with a decoder.

    The paper's codec has 50 frames a second and 12 levels of 1024: 6 kbit/s (section 4.1).
    """

    width: int = 256
    """Channels of the decoder."""

    hidden: int = 768
    """Inner width of its blocks' pointwise networks."""

    blocks: int = 4
    """Of the decoder."""

    kernel: int = 7
    """Frames that a block's convolution sees, odd."""

    levels: int = 12
    """Q."""

    codebook_size: int = 1024
    """C, entries of each level."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.width, self.hidden, self.blocks, self.levels) < 1:
            raise DataMismatch("a mel codec's widths, blocks and levels must all be at least 1")
        if not 2 <= self.codebook_size <= 1 << 16:
            raise DataMismatch(
                f"a codebook of {self.codebook_size} entries is not between 2 and 65536"
            )
        _check_kernel(self.kernel)


@dataclass(frozen=True, kw_only=True)
class VocoderConfig(MelGeometry):
    """Mel frames to samples by an inverse short-time Fourier transform (Vocos)."""

    width: int = 384
    """Channels."""

    hidden: int = 1152
    """Inner width of the blocks' pointwise networks."""

    blocks: int = 8
    """Number of blocks."""

    kernel: int = 7
    """Frames that a block's convolution sees, odd."""

    fft: int = 1280
    """Samples of the inverse transform and of its window: a multiple of the hop, twice it or
    more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.width, self.hidden, self.blocks) < 1:
            raise DataMismatch("a vocoder's widths and blocks must all be at least 1")
        _check_kernel(self.kernel)
        if self.fft % self.hop or self.fft < 2 * self.hop or (self.fft - self.hop) % 2:
            raise DataMismatch(
                f"an inverse transform of {self.fft} samples does not fit a hop of {self.hop}: "
                f"use an even multiple of it, such as {4 * self.hop}"
            )


@dataclass(frozen=True, kw_only=True)
class SourceFilterConfig(MelGeometry):
    """Mel frames to samples by a voice's pulses and noise, for which a network finds the pitch."""

    width: int = 128
    """Channels."""

    hidden: int = 384
    """Inner width of the blocks' pointwise networks."""

    blocks: int = 4
    """Number of blocks."""

    kernel: int = 7
    """Frames that a block's convolution sees, odd."""

    lowest: float = 60.0
    """Hz, of the pitches that can be told."""

    highest: float = 500.0
    """Hz, likewise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.width, self.hidden, self.blocks) < 1:
            raise DataMismatch("a source-filter's widths and blocks must all be at least 1")
        if self.hop % 2:
            raise DataMismatch(
                f"a source-filter has two pitches a frame: {self.hop} samples are odd"
            )
        if not 0 < 1.5 * self.lowest <= self.highest <= self.sample_rate / 4:
            raise DataMismatch(
                f"pitches from {self.lowest} to {self.highest} Hz are none to choose from at "
                f"{self.sample_rate} Hz: take speech's 60 to 500"
            )
        _check_kernel(self.kernel)


def _check_kernel(kernel: int) -> None:
    if kernel < 1 or kernel % 2 == 0:
        raise DataMismatch(f"a kernel of {kernel} frames has no middle: use an odd one")
