"""The shapes of AudioLM's three stages and the entries of their vocabularies.

A stage has one vocabulary: one table of embeddings, with a range of entries for each kind and
level of token. It generates codebooks in turn (`groups`), so the place of a token says which it
is of, and each has a head of its own: an entry of another level has no logit at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from stages.errors import DataMismatch
from stages.nn.config_json import JsonConfig
from stages.nn.transformer import TransformerConfig

COARSE_LEVELS = 4
"""Levels of the coarse stage (paper, section 4.2)."""


@dataclass(frozen=True, kw_only=True)
class StageConfig(JsonConfig):
    """What the stages share; the defaults are AudioLM's Transformer, alike in all three."""

    stage: ClassVar[str]
    """`semantic`, `coarse` or `fine`."""

    chunk_seconds: float
    """What a stage generates at once, prompt included, and the longest it is trained on."""

    overlap_seconds: float
    """The end of a chunk that is the prompt of the next."""

    layers: int = 12
    """Transformer blocks."""

    heads: int = 16
    """Attention heads."""

    width: int = 1024
    """D, width of embeddings and Transformer."""

    feed_forward: int = 4096
    """Inner width of the feed-forward modules."""

    dropout: float = 0.1
    """Dropout in training."""

    centroid_dim: int = 0
    """Numbers of a k-means centroid, where embeddings of semantic tokens, and their logits if they
    have any, are functions of those; 0 where each has its own."""

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_seconds < self.chunk_seconds < float("inf"):
            raise DataMismatch(
                f"an overlap of {self.overlap_seconds:g} s is not within a chunk of "
                f"{self.chunk_seconds:g} s"
            )
        if min(self.groups, self.group_size, self.entries) < 1:
            raise DataMismatch(f"a {self.kind} needs at least one level and one entry a codebook")
        if self.centroid_dim < 0 or (self.centroid_dim and not self.semantic_entries):
            raise DataMismatch(f"{self.kind} has no centroids of {self.centroid_dim} numbers")
        _ = self.transformer  # checks the rest

    @property
    def kind(self) -> str:
        """Of its model folders, and the name of `train --model`."""
        return f"audiolm-{self.stage}"

    @property
    def transformer(self) -> TransformerConfig:
        return TransformerConfig(
            layers=self.layers,
            heads=self.heads,
            width=self.width,
            feed_forward=self.feed_forward,
            dropout=self.dropout,
        )

    @property
    def groups(self) -> int:
        """G, codebooks that are generated in turn: generated token i is of codebook i mod G."""
        raise NotImplementedError

    @property
    def group_size(self) -> int:
        """C, candidates for each generated token."""
        raise NotImplementedError

    @property
    def entries(self) -> int:
        """V, entries of the whole vocabulary."""
        raise NotImplementedError

    def first_entry(self, group: int) -> int:
        """The entry of code 0 of a generated codebook; its other codes follow."""
        raise NotImplementedError

    @property
    def semantic_entries(self) -> range:
        """The entries of semantic tokens."""
        return range(0)

    def chunk_frames(self, rate: Fraction) -> tuple[int, int]:
        """Frames of a chunk and of its overlap.

        Raises:
            DataMismatch: if a chunk is no longer than its overlap, both in whole frames.
        """
        # By their digits: the nearest float may lie just below a whole number of frames.
        chunk, overlap = (
            int(Fraction(str(seconds)) * rate)
            for seconds in (self.chunk_seconds, self.overlap_seconds)
        )
        if chunk <= overlap:
            raise DataMismatch(
                f"a chunk of {self.chunk_seconds:g} s has no frame at {rate} Hz beyond its overlap"
            )
        return chunk, overlap


@dataclass(frozen=True, kw_only=True)
class SemanticConfig(StageConfig):
    """Stage one: semantic tokens from those before."""

    stage: ClassVar[str] = "semantic"

    semantic_codebook_size: int
    """Number of semantic tokens (k-means clusters)."""

    chunk_seconds: float = 30.0
    """The longest that is trained on; what is generated beyond it slides."""

    overlap_seconds: float = 20.0
    """What is remembered of a chunk in the next: words, unlike sounds, need a long past."""

    @property
    def groups(self) -> int:
        return 1

    @property
    def group_size(self) -> int:
        """The semantic tokens, then the end."""
        return self.semantic_codebook_size + 1

    @property
    def entries(self) -> int:
        return self.semantic_codebook_size + 3

    def first_entry(self, group: int) -> int:
        del group
        return 0

    @property
    def semantic_entries(self) -> range:
        return range(self.semantic_codebook_size)

    @property
    def end(self) -> int:
        """Code and entry that follow an utterance's last token."""
        return self.semantic_codebook_size

    @property
    def begin(self) -> int:
        """Entry before an utterance's first token."""
        return self.semantic_codebook_size + 1

    @property
    def middle(self) -> int:
        """Entry before a token from the midst of an utterance, so that `begin` keeps its sense
        where training takes windows."""
        return self.semantic_codebook_size + 2


@dataclass(frozen=True, kw_only=True)
class CoarseConfig(StageConfig):
    """Stage two: the first levels, frame by frame, from semantic tokens."""

    stage: ClassVar[str] = "coarse"

    semantic_codebook_size: int
    """Number of semantic tokens."""

    codebook_size: int
    """Entries of each acoustic level."""

    levels: int = COARSE_LEVELS
    """Acoustic levels that it makes, coarse first."""

    keep_duplicates: bool = True
    """Whether the condition is one semantic token an acoustic frame, as SoundStorm's and as in
    the paper's comparison (section 4.2), or has runs of one token removed, as AudioLM's."""

    chunk_seconds: float = 10.0
    overlap_seconds: float = 3.0

    @property
    def groups(self) -> int:
        return self.levels

    @property
    def group_size(self) -> int:
        return self.codebook_size

    @property
    def entries(self) -> int:
        return self.levels * self.codebook_size + self.semantic_codebook_size + 1

    def first_entry(self, group: int) -> int:
        return group * self.codebook_size

    @property
    def first_semantic(self) -> int:
        """The entry of semantic token 0."""
        return self.levels * self.codebook_size

    @property
    def semantic_entries(self) -> range:
        return range(self.first_semantic, self.separator)

    @property
    def separator(self) -> int:
        """Entry between the condition and the first acoustic token."""
        return self.entries - 1


@dataclass(frozen=True, kw_only=True)
class FineConfig(StageConfig):
    """Stage three: the remaining levels, frame by frame, from the coarse ones."""

    stage: ClassVar[str] = "fine"

    codebook_size: int
    """Entries of each acoustic level."""

    levels: int
    """Q, all the acoustic levels there are in the end."""

    coarse_levels: int = COARSE_LEVELS
    """How many of them are given."""

    chunk_seconds: float = 3.0
    """AudioLM's: fine levels depend on what is near alone."""

    overlap_seconds: float = 1.0
    """AudioLM has none; with some, a chunk takes up the sound of the one before."""

    def __post_init__(self) -> None:
        if self.coarse_levels < 1:
            raise DataMismatch("AudioLM's fine stage needs at least one coarse level")
        super().__post_init__()

    @property
    def groups(self) -> int:
        return self.levels - self.coarse_levels

    @property
    def group_size(self) -> int:
        return self.codebook_size

    @property
    def entries(self) -> int:
        return self.levels * self.codebook_size + 1

    def first_entry(self, group: int) -> int:
        return (self.coarse_levels + group) * self.codebook_size

    @property
    def separator(self) -> int:
        """Entry between the coarse tokens and the first fine one."""
        return self.entries - 1


STAGES: dict[str, type[StageConfig]] = {
    config.stage: config for config in (SemanticConfig, CoarseConfig, FineConfig)
}
"""By the stage's name."""
