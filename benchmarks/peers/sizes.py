"""The networks that are compared, in terms that both sides can build from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from stages.errors import DataMismatch
from stages.training.presets import PRESETS, preset

LEVELS, CODEBOOK_SIZE = 12, 1024
"""The paper's acoustic tokens (section 4.1), and those of the codec `mini`."""

COARSE_LEVELS = 4
"""Levels of AudioLM's coarse stage (paper, section 4.2)."""

SMALL = "small"
"""A size that is no preset: large enough that arithmetic counts, small enough to wait for."""

_SMALL: dict[str, int] = {"layers": 4, "heads": 4, "width": 256, "feed_forward": 1024}
SEMANTIC_SIZES = {"mini": 4096}
"""Semantic tokens of a size; others have the paper's 1,024."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A Conformer or a Transformer, and its tokens."""

    layers: int

    heads: int

    width: int

    feed_forward: int

    kernel: int = 5
    """Frames that a Conformer's depthwise convolution sees."""

    levels: int = LEVELS

    coarse_levels: int = COARSE_LEVELS

    codebook_size: int = CODEBOOK_SIZE

    semantic_size: int = 1024

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def shape_of(model: str, size: str) -> Shape:
    """The shape of a model of a size.

    Args:
        model: `soundstorm`, `audiolm-coarse` or `audiolm-fine`.
        size: `small` or the name of a preset.

    Raises:
        DataMismatch: if there is no such size.
    """
    if size == SMALL:
        return Shape(**_SMALL)
    if size not in PRESETS[model]:
        raise DataMismatch(
            f"there is no size {size}; there are {', '.join((SMALL, *PRESETS[model]))}"
        )
    network = preset(model, size).network
    fields = {name: network[name] for name in (*_SMALL, "kernel") if name in network}
    return Shape(**fields, semantic_size=SEMANTIC_SIZES.get(size, 1024))
