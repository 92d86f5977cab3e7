"""The shape of the networks between units and log-mel frames, and how they are saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from stages.errors import DataMismatch
from stages.nn.config_json import JsonConfig
from stages.nn.conformer import ConformerConfig
from stages.nn.model_file import ModelFile, save_model_file
from stages.semantic.kmeans import KMeans
from stages.semantic.whisper_ear import HOP, SAMPLE_RATE


@dataclass(frozen=True, kw_only=True)
class UnitNetworkConfig(JsonConfig):
    """A Conformer at the units' rate, and the log-mel frames to each unit."""

    kind: ClassVar[str]
    """Of its model folders."""

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

    dim: int = 8
    """Numbers of a centroid."""

    mels: int = 80
    """Bands of Whisper's log-mel frames."""

    stack: int = 4
    """Log-mel frames of 10 ms to one unit: 4 are 25 units a second."""

    def __post_init__(self) -> None:
        if min(self.dim, self.mels, self.stack) < 1 or self.stack % 2:
            raise DataMismatch(
                "a network of units needs at least one number and one band, and an even "
                "network.stack, since Whisper's own frames are of 20 ms"
            )
        _ = self.conformer  # checks the rest

    @property
    def conformer(self) -> ConformerConfig:
        return ConformerConfig.of(self)

    @property
    def frame_rate(self) -> Fraction:
        """Units a second, exact."""
        return Fraction(SAMPLE_RATE, HOP * self.stack)


def save_unit_network(
    folder: Path,
    *,
    config: UnitNetworkConfig,
    weights: Mapping[str, Tensor],
    kmeans: KMeans,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder of the configuration's kind, for the encoder of the units that taught
    it; it serves all k-means of that encoder."""
    save_model_file(
        folder,
        kind=config.kind,
        config=config.to_json(),
        weights=weights,
        tokens={"semantic": kmeans.tokens.to_json()},
        extra={**(extra or {}), "encoder_fingerprint": kmeans.encoder_fingerprint},
    )


def require_points_of(file: ModelFile, encoder: str, *, refusal: str) -> None:
    """Refuse a model of another encoder's points.

    Args:
        file: that `save_unit_network` wrote.
        encoder: the fingerprint of the encoder that is there.
        refusal: what to say.

    Raises:
        DataMismatch: if the model did not learn from this encoder's.
    """
    if file.extra.get("encoder_fingerprint") != encoder:
        raise DataMismatch(refusal)
