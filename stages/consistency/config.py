"""Shape of a consistency model: the encoder's layers that it hears with, and what is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.errors import DataMismatch
from stages.nn.config_json import JsonConfig
from stages.nn.conformer import ConformerConfig
from stages.semantic.speech_conformer import SpeechConformerConfig

CROP_SECONDS = 3.0
"""What is compared: the prompt and later crops of the paper's section 4.2 last 3 s each."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig(JsonConfig):
    """The trained part: one Conformer block, the mean over time, a linear projection."""

    heads: int
    """Attention heads of the block, whose width is the encoder's."""

    feed_forward: int
    """Inner width of its feed-forward modules."""

    kernel: int = 5
    """Frames that its depthwise convolution sees."""

    dropout: float = 0.1

    dim: int = 1024
    """D, width of an embedding; the default is the paper's."""

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise DataMismatch(f"an embedding of width {self.dim} says nothing: use 1 or more")


@dataclass(frozen=True, kw_only=True)
class ConsistencyConfig:
    """Both parts."""

    encoder: SpeechConformerConfig
    """Of the frozen encoder, whose `layers` end at the layer that is listened to."""

    head: HeadConfig

    def __post_init__(self) -> None:
        _ = self.conformer  # checks that the block fits the encoder's width

    @property
    def conformer(self) -> ConformerConfig:
        """Of the one block on the encoder's frames."""
        return ConformerConfig(
            layers=1,
            heads=self.head.heads,
            width=self.encoder.width,
            feed_forward=self.head.feed_forward,
            kernel=self.head.kernel,
            dropout=self.head.dropout,
        )

    def to_json(self) -> dict[str, Any]:
        return {"encoder": self.encoder.to_json(), "head": self.head.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, where: str) -> ConsistencyConfig:
        """Read what `to_json` wrote.

        Raises:
            DataMismatch: if a part or a field is unknown, missing or of the wrong type.
        """
        parts = ("encoder", "head")
        if set(value) != set(parts) or not all(isinstance(value[part], dict) for part in parts):
            raise DataMismatch(f"{where} must have an encoder and a head, and nothing else")
        return cls(
            encoder=SpeechConformerConfig.from_json(value["encoder"], where=f"{where}: encoder"),
            head=HeadConfig.from_json(value["head"], where=f"{where}: head"),
        )
