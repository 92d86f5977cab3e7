"""The one interface of every semantic encoder: audio to continuous frames, before k-means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Frames:
    """A ragged batch of feature frames."""

    values: Tensor
    """`[B, T, D]` float32; frames at or past a row's length are void."""

    lengths: Tensor
    """`[B]` int64: frames of each row."""


class SemanticEncoder(ABC):
    """Audio to frames `[B, T, D]` at an exact rate.

    A row's frames never depend on the other rows of its batch. Implementations set every
    attribute below in their constructor.
    """

    name: str
    """What the user called it, with its layer: `wav2vec2_base:7`, `logmel`."""

    fingerprint: str
    """SHA-256 hex over weights, layer, and every setting that changes a frame."""

    sample_rate: int
    """Hz, of what `encode` takes."""

    frame_rate: Fraction
    """Frames a second, exact, after any averaging or dropping."""

    dim: int
    """D, the width of a frame."""

    @abstractmethod
    def encode(self, samples: Tensor, lengths: Tensor) -> Frames:
        """Encode mono audio `[B, N]` float32 with `[B]` lengths in samples."""
