"""The tokens and networks that speed is measured with: presets' shapes over the paper's tokens."""

from __future__ import annotations

from fractions import Fraction

from stages.shards.spec import TokenSpec
from stages.soundstorm.config import SoundStormConfig
from stages.training.presets import preset

LEVELS, CODEBOOK_SIZE = 12, 1024
"""Of the paper's acoustic tokens (section 4.1), and of the codec `mini`'s."""

SEMANTIC_CODEBOOK_SIZE = 1024
"""The paper's."""

MINI_SEMANTIC_CODEBOOK_SIZE = 4096
"""For the size `mini`, whatever the k-means of that name has: to SoundStorm they are rows to look
up."""

SEMANTIC_RATE, ACOUSTIC_RATE = Fraction(25), Fraction(50)


def semantic_codebook_size(name: str) -> int:
    """Semantic tokens of the models of a preset."""
    return MINI_SEMANTIC_CODEBOOK_SIZE if name == "mini" else SEMANTIC_CODEBOOK_SIZE


def soundstorm_shape(name: str, levels: int = LEVELS) -> SoundStormConfig:
    """The network of a preset of SoundStorm, for Q levels.

    Raises:
        DataMismatch: if there is no such preset, or no level.
    """
    return SoundStormConfig(
        levels=levels,
        codebook_size=CODEBOOK_SIZE,
        semantic_codebook_size=semantic_codebook_size(name),
        **preset("soundstorm", name).network,
    )


def token_specs(config: SoundStormConfig) -> dict[str, TokenSpec]:
    """What a network speaks, by kind: tokens of no encoder and no codec in particular."""
    return {
        "semantic": TokenSpec(
            kind="semantic",
            name="random",
            fingerprint="0" * 64,
            frame_rate=SEMANTIC_RATE,
            codebook_size=config.semantic_codebook_size,
        ),
        "acoustic": TokenSpec(
            kind="acoustic",
            name="random",
            fingerprint="0" * 64,
            frame_rate=ACOUSTIC_RATE,
            codebook_size=config.codebook_size,
            levels=config.levels,
        ),
    }


def frames_of(seconds: Fraction) -> int:
    """Acoustic frames of so much audio."""
    return int(seconds * ACOUSTIC_RATE)
