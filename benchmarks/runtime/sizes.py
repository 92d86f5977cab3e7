"""The networks that are compared: the shapes of a training preset over the paper's tokens."""

from __future__ import annotations

from dataclasses import dataclass

from stages.audiolm.config import CoarseConfig, FineConfig, SemanticConfig
from stages.shards.spec import TokenSpec
from stages.soundstorm.config import SoundStormConfig
from stages.speed.shapes import (
    CODEBOOK_SIZE,
    LEVELS,
    semantic_codebook_size,
    soundstorm_shape,
    token_specs,
)
from stages.training.presets import preset


@dataclass(frozen=True, kw_only=True)
class Size:
    """The shapes of all models of about one size."""

    name: str

    semantic: SemanticConfig

    coarse: CoarseConfig

    fine: FineConfig

    soundstorm: SoundStormConfig

    @property
    def tokens(self) -> dict[str, TokenSpec]:
        """What the models speak; tokens of no encoder in particular."""
        return token_specs(self.soundstorm)


def size_of_preset(name: str) -> Size:
    """The shapes of the presets `name`.

    Raises:
        DataMismatch: if there are none.
    """
    semantic = semantic_codebook_size(name)
    return Size(
        name=name,
        semantic=SemanticConfig(
            semantic_codebook_size=semantic, **preset("audiolm-semantic", name).network
        ),
        coarse=CoarseConfig(
            semantic_codebook_size=semantic,
            codebook_size=CODEBOOK_SIZE,
            **preset("audiolm-coarse", name).network,
        ),
        fine=FineConfig(
            codebook_size=CODEBOOK_SIZE, levels=LEVELS, **preset("audiolm-fine", name).network
        ),
        soundstorm=soundstorm_shape(name),
    )
