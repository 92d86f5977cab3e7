"""The network that speaks units in a search: log-mel frames of their centroids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from stages.errors import DataMismatch
from stages.nn.config_json import JsonConfig
from stages.nn.conformer import ConformerConfig
from stages.nn.model_file import ModelFile, load_model_file, load_weights, save_model_file
from stages.semantic.speaking import Speaker
from stages.semantic.whisper_ear import HOP, SAMPLE_RATE
from stages.shards.spec import TokenSpec

KIND = "unit-to-mel"


@dataclass(frozen=True, kw_only=True)
class UnitToMelConfig(JsonConfig):
    """Shape of the network."""

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
                "a unit-to-mel network needs at least one number and one band, and an even "
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

    def build(self) -> Speaker:
        """A network of this shape, with random weights."""
        return Speaker(self.conformer, dim=self.dim, stack=self.stack, mels=self.mels)


def save_unit_to_mel(
    folder: Path,
    *,
    config: UnitToMelConfig,
    weights: Mapping[str, Tensor],
    tokens: TokenSpec,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder of kind `unit-to-mel` for the units of `tokens`."""
    save_model_file(
        folder,
        kind=KIND,
        config=config.to_json(),
        weights=weights,
        tokens={"semantic": tokens.to_json()},
        extra=extra,
    )


def load_unit_to_mel(folder: Path) -> tuple[Speaker, UnitToMelConfig, ModelFile]:
    """Read a model folder of kind `unit-to-mel`.

    Raises:
        DataMismatch: if it is none, or its weights do not fit its configuration.
    """
    file = load_model_file(folder, kind=KIND)
    config = UnitToMelConfig.from_json(file.config, where=str(folder))
    network = config.build()
    load_weights(network, file.weights, folder)
    return network.eval(), config, file
