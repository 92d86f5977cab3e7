"""What only SoundStorm's training has: which levels it practises, and where embeddings start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from stages.errors import DataMismatch
from stages.shards.spec import TokenSpec
from stages.soundstorm.masking import Practice
from stages.soundstorm.network import SoundStorm
from stages.soundstorm.warm_start import start_acoustic, start_semantic
from stages.training.settings import overlay
from stages.training.tasks.token_models import centroids_of, codebooks_of


@dataclass(frozen=True, kw_only=True)
class SoundStormRecipe:
    """The fields of `recipe`."""

    level_power: float = 0.0
    """Level q (from 1) is practised with weight `q ** -level_power`: 0 is the paper's, every level
    alike; 1 gives the first of 12 levels a third of the examples. The coarse levels carry the
    words, and with few steps they are what falls short."""

    whole_first: float = 0.0
    """Part of the first level's examples that are masked whole from the delimiter on: 0 is the
    paper's, whose ratios are cos u."""

    whole_finer: float = 0.0
    """The same of each finer level. Decoding with one pass a finer level meets them in no other
    way."""

    drop_semantic: float = 0.0
    """Part of the examples that come without their semantic tokens: 0 is the paper's. More lets
    decoding guide (`decode --guidance`; Ho and Salimans 2022), for which 0.1 is usual."""

    codec: str = ""
    """The tokens' codec, as `--codec` takes it: embeddings and heads start from its codebooks.
    Empty for a random start."""

    kmeans: str = ""
    """Folder of the tokens' k-means, or `mini`: condition embeddings start from its centroids.
    Empty for a random start."""

    centroids: bool = False
    """Whether condition embeddings are a linear function of the k-means' centroids, instead of a
    table (the paper's): for tens of thousands of units. Needs `kmeans`."""

    former: str = ""
    """For `--init` with a model of other semantic tokens: the training set's utterances, in the
    same order, with the tokens of that model. Condition embeddings start from those of the former
    tokens at the same frames."""

    encoder: str = ""
    """`whisper:FOLDER`, a Whisper in CTranslate2's format that listens: the network also speaks
    whole utterances again and learns from what is heard in them. Needs `codec`, a mel codec. Empty
    is the paper's."""

    encoder_fingerprint: str = ""
    """SHA-256 hex of its weights; always filled in anew, so that no run resumes on another."""

    heard_utterances: int = 4
    """Utterances a step that are heard."""

    difference_weight: float = 2.0
    """Of how differently Whisper's encoder hears them from the true tokens, against the masked
    tokens' loss."""

    divergence_weight: float = 1.0
    """Of how differently Whisper's decoder expects their text, where the shards have it."""

    def __post_init__(self) -> None:
        if self.heard_utterances < 1:
            raise DataMismatch("the setting recipe.heard_utterances must be at least 1")
        if min(self.difference_weight, self.divergence_weight) < 0:
            raise DataMismatch("recipe.difference_weight and divergence_weight must be at least 0")
        if self.level_power < 0:
            raise DataMismatch("the setting recipe.level_power must be at least 0")
        if not (0 <= self.whole_first <= 1 and 0 <= self.whole_finer <= 1):
            raise DataMismatch("recipe.whole_first and whole_finer must be in [0, 1]")
        if not 0 <= self.drop_semantic < 1:
            raise DataMismatch("recipe.drop_semantic must be in [0, 1)")

    @staticmethod
    def of(values: Mapping[str, Any]) -> SoundStormRecipe:
        """From the settings' `recipe`; DataMismatch for a field that is unknown or ill-typed."""
        return overlay(SoundStormRecipe(), values, where="recipe", prefix="recipe.")

    def practice(self, levels: int) -> Practice:
        """For `draw_mask`."""
        weights = whole = None
        if self.level_power:
            weights = torch.arange(1, levels + 1, dtype=torch.float64) ** -self.level_power
        if self.whole_first or self.whole_finer:
            whole = torch.full((levels,), self.whole_finer, dtype=torch.float64)
            whole[0] = self.whole_first
        return Practice(level_weights=weights, whole=whole, drop_semantic=self.drop_semantic)

    def start(
        self, network: SoundStorm, semantic: TokenSpec, acoustic: TokenSpec, *, seed: int
    ) -> None:
        """Start the embeddings from the models that made the tokens.

        Raises:
            DataMismatch: if one is not the model of the tokens.
        """
        generator = torch.Generator().manual_seed(seed)
        if self.codec:
            start_acoustic(network, codebooks_of(self.codec, acoustic), generator)
        if self.kmeans:
            start_semantic(network, centroids_of(self.kmeans, semantic), generator)
