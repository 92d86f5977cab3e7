"""The shape of a SoundStorm network."""

from __future__ import annotations

from dataclasses import dataclass

from stages.errors import DataMismatch
from stages.nn.config_json import JsonConfig
from stages.nn.conformer import ConformerConfig


@dataclass(frozen=True, kw_only=True)
class SoundStormConfig(JsonConfig):
    """What the tokens are and how large the Conformer over them is.

    The paper's model (section 4.1) is 12 levels of 1024, 1024 semantic tokens, and the defaults
    below: about 315M parameters in the layout of `stages.nn.conformer`.
    """

    levels: int
    """Q, levels of the acoustic tokens that are modelled, coarse first."""

    codebook_size: int
    """C, entries of each acoustic level."""

    semantic_codebook_size: int
    """Number of semantic tokens (k-means clusters)."""

    layers: int = 12
    """Conformer blocks."""

    heads: int = 16
    """Attention heads."""

    width: int = 1024
    """D, width of embeddings and Conformer."""

    feed_forward: int = 4096
    """Inner width of the feed-forward modules."""

    kernel: int = 5
    """Frames that the depthwise convolution sees."""

    dropout: float = 0.1
    """Dropout in training; the paper states none."""

    centroid_dim: int = 0
    """Numbers of a k-means centroid, where condition embeddings are a linear function of those; 0,
    as in the paper, where each semantic token has an embedding of its own."""

    unconditional: bool = False
    """Whether training left out the semantic tokens of some examples, so that decoding may weigh
    what they say against what is likely without them (`DecodeOptions.guidance`)."""

    def __post_init__(self) -> None:
        if min(self.levels, self.codebook_size, self.semantic_codebook_size) < 1:
            raise DataMismatch("a SoundStorm needs at least one level and one entry a codebook")
        if self.centroid_dim < 0:
            raise DataMismatch(f"a centroid has no {self.centroid_dim} numbers")
        _ = self.conformer  # checks the rest

    @property
    def mask_token(self) -> int:
        """C: what stands, at every level, for a token that is not known yet."""
        return self.codebook_size

    @property
    def no_condition(self) -> int:
        """What stands for the semantic token of a frame of which it says nothing."""
        return self.semantic_codebook_size

    @property
    def conformer(self) -> ConformerConfig:
        return ConformerConfig.of(self)
