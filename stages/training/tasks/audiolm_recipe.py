"""What only AudioLM's training has: where embeddings start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from stages.audiolm.model import Tokens, token_kinds
from stages.audiolm.network import StageNetwork
from stages.audiolm.warm_start import start_from_centroids, start_from_codebooks
from stages.errors import DataMismatch
from stages.training.settings import overlay
from stages.training.tasks.token_models import centroids_of, codebooks_of


@dataclass(frozen=True, kw_only=True)
class AudioLMRecipe:
    """The fields of `recipe`."""

    codec: str = ""
    """The tokens' codec, as `--codec` takes it: embeddings and heads start from its codebooks.
    Empty for a random start."""

    kmeans: str = ""
    """Folder of the tokens' k-means, or `mini`: semantic embeddings start from its centroids.
    Empty for a random start."""

    centroids: bool = False
    """Whether embeddings of semantic tokens, and their logits, are functions of the k-means'
    centroids instead of tables: for tens of thousands of units. Needs `kmeans`."""

    former: str = ""
    """For `--init` with a model of other semantic tokens: the training set's utterances, in the
    same order, with the tokens of that model. Semantic embeddings start from those of the former
    tokens at the same frames, and so do logits of semantic tokens."""

    @staticmethod
    def of(values: Mapping[str, Any]) -> AudioLMRecipe:
        """From the settings' `recipe`; DataMismatch for a field that is unknown or ill-typed."""
        return overlay(AudioLMRecipe(), values, where="recipe", prefix="recipe.")

    def start(self, network: StageNetwork, tokens: Tokens, *, seed: int) -> None:
        """Start a stage from the models that made its tokens.

        Raises:
            DataMismatch: if one is not the model of the tokens, or the stage has none of them.
        """
        kinds = token_kinds(network.config)
        for kind, named, flag in (
            ("acoustic", self.codec, "--codec"),
            ("semantic", self.kmeans, "--kmeans"),
            ("semantic", self.former, "recipe.former"),
        ):
            if named and kind not in kinds:
                raise DataMismatch(f"{network.config.kind} has no {kind} tokens: leave out {flag}")
        generator = torch.Generator().manual_seed(seed)
        if self.codec:
            codebooks = codebooks_of(self.codec, tokens["acoustic"])
            start_from_codebooks(network, codebooks, generator)
        if self.kmeans:
            centroids = centroids_of(self.kmeans, tokens["semantic"])
            start_from_centroids(network, centroids, generator)
