"""The one interface of every neural codec: audio to acoustic tokens and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AcousticTokens:
    """A ragged batch of acoustic tokens."""

    codes: Tensor
    """`[B, T, Q]` int64, coarse level first; frames at or past a row's length are 0 and void."""

    lengths: Tensor
    """`[B]` int64: frames of each row."""


@dataclass(frozen=True, kw_only=True)
class AudioBatch:
    """A ragged batch of waveforms."""

    samples: Tensor
    """`[B, C, N]` float32 in [-1, 1]; samples at or past a row's length are 0 and void."""

    lengths: Tensor
    """`[B]` int64: samples of each row."""


class Codec(ABC):
    """Audio to `[T, Q]` residual-quantiser tokens and back (SoundStream, EnCodec, ...).

    A row's tokens never depend on the other rows of its batch. Implementations set every
    attribute below in their constructor.
    """

    name: str
    """What the user called it, for example `encodec_24khz` or `lyra`."""

    fingerprint: str
    """SHA-256 hex over the weights; equal fingerprints mean interchangeable tokens.

    It leaves out the number of levels, since the first n levels of a residual quantiser can be
    used alone."""

    sample_rate: int
    """Hz, of what `encode` takes and `decode` gives."""

    channels: int

    frame_rate: Fraction
    """Frames a second, exact."""

    levels: int
    """Q, as configured (coarse first)."""

    codebook_size: int
    """C, entries of each level."""

    @abstractmethod
    def encode(self, audio: AudioBatch) -> AcousticTokens:
        """Tokenize `[B, C, N]` audio at `sample_rate` into `[B, T, Q]` codes."""

    @abstractmethod
    def decode(self, tokens: AcousticTokens) -> AudioBatch:
        """Turn `[B, T, Q]` codes (Q at most `levels`) into `[B, C, N]` audio."""
