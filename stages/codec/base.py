"""The one interface of every neural codec: audio to acoustic tokens and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from stages.errors import DataMismatch
from stages.shards.spec import TokenSpec


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


class UnusableVocoder(DataMismatch):
    """What was asked for as a vocoder is none that this codec's tokens can be spoken with."""


class Codec(ABC):
    """Audio to `[T, Q]` residual-quantiser tokens and back (SoundStream, EnCodec, ...).

    A row's tokens never depend on the other rows of its batch. N samples become
    T = ceil(N / hop) frames, and T frames become T x hop samples, with hop = sample_rate /
    frame_rate. Implementations set every attribute below in their constructor.
    """

    name: str
    """What the user called it, as `load_codec` takes it: `encodec_24khz`, `lyra:models/lyra`."""

    fingerprint: str
    """SHA-256 hex over the weights; equal fingerprints mean interchangeable tokens.

    It leaves out the number of levels, since the first n levels of a residual quantiser can be
    used alone, and whatever only turns tokens back into sound."""

    decoder_fingerprint: str
    """SHA-256 hex over all that turns tokens into sound: equal ones make equal samples."""

    models: dict[str, str]
    """SHA-256 hex of each file or set of weights that decides a token, by name."""

    sample_rate: int
    """Hz, of what `encode` takes and `decode` gives."""

    channels: int

    frame_rate: Fraction
    """Frames a second, exact."""

    levels: int
    """Q, as configured (coarse first)."""

    codebook_size: int
    """C, entries of each level."""

    in_processes: bool = False
    """Whether one copy in each worker process, and not one fast copy, fills a machine's cores."""

    @abstractmethod
    def encode(self, audio: AudioBatch) -> AcousticTokens:
        """Tokenize `[B, C, N]` audio at `sample_rate` into `[B, T, Q]` codes."""

    @abstractmethod
    def decode(self, tokens: AcousticTokens) -> AudioBatch:
        """Turn `[B, T, Q]` codes (Q at most `levels`) into `[B, C, N]` audio."""

    @abstractmethod
    def codebooks(self) -> Tensor:
        """The vectors that codes stand for: `[Q, C, D]` float32 on the CPU.

        A frame's Q entries add up to its quantised features, but for a vector that all frames
        share. SoundStorm's embeddings can start from them.
        """

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        hop = self.sample_rate / self.frame_rate
        if hop.denominator != 1:
            raise DataMismatch(
                f"{self.name} has {self.sample_rate} Hz and {self.frame_rate} frames a second: a "
                "frame must be a whole number of samples"
            )
        return int(hop)

    @property
    def spec(self) -> TokenSpec:
        """What its tokens are, as shards and models record it."""
        return TokenSpec(
            kind="acoustic",
            name=self.name,
            fingerprint=self.fingerprint,
            frame_rate=self.frame_rate,
            codebook_size=self.codebook_size,
            levels=self.levels,
        )

    def frames_of(self, samples: int) -> int:
        """T of N samples: ceil(N / hop), the last frame padded with silence."""
        return -(-samples // self.hop)
