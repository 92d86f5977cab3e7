"""The networks that are compared: the shapes of a training preset over the paper's tokens."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from stages.audiolm.config import CoarseConfig, FineConfig, SemanticConfig
from stages.shards.spec import TokenSpec
from stages.soundstorm.config import SoundStormConfig
from stages.training.presets import preset

LEVELS, CODEBOOK_SIZE = 12, 1024
"""Of the paper's acoustic tokens (section 4.1), and of the codec `mini`'s."""

SEMANTIC_CODEBOOK_SIZE = 1024
"""The paper's."""

MINI_SEMANTIC_CODEBOOK_SIZE = 4096
"""Of the k-means `mini`."""

SEMANTIC_RATE, ACOUSTIC_RATE = Fraction(25), Fraction(50)


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
        return {
            "semantic": TokenSpec(
                kind="semantic",
                name="random",
                fingerprint="0" * 64,
                frame_rate=SEMANTIC_RATE,
                codebook_size=self.coarse.semantic_codebook_size,
            ),
            "acoustic": TokenSpec(
                kind="acoustic",
                name="random",
                fingerprint="0" * 64,
                frame_rate=ACOUSTIC_RATE,
                codebook_size=self.coarse.codebook_size,
                levels=self.fine.levels,
            ),
        }


def size_of_preset(name: str) -> Size:
    """The shapes of the presets `name`.

    Raises:
        DataMismatch: if there are none.
    """
    semantic = MINI_SEMANTIC_CODEBOOK_SIZE if name == "mini" else SEMANTIC_CODEBOOK_SIZE
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
        soundstorm=SoundStormConfig(
            levels=LEVELS,
            codebook_size=CODEBOOK_SIZE,
            semantic_codebook_size=semantic,
            **preset("soundstorm", name).network,
        ),
    )
