"""The models that made a training set's tokens: where embeddings and heads can start from."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.assets import model_folder
from stages.codec.registry import load_codec
from stages.errors import DataMismatch
from stages.semantic.kmeans import load_kmeans
from stages.shards.spec import TokenSpec
from stages.training.settings import TrainingSettings


def codebooks_of(codec: str, tokens: TokenSpec) -> Tensor:
    """`[Q, C, D]`: the entries of the codec that made acoustic tokens (`Codec.codebooks`).

    Args:
        codec: as `--codec` takes it.
        tokens: the training set's.

    Raises:
        DataMismatch: if it is not their codec.
    """
    loaded = load_codec(codec, levels=tokens.levels)
    tokens.require_same(loaded.spec, ours="the training set", theirs=codec)
    return loaded.codebooks()


def centroids_of(kmeans: str, tokens: TokenSpec) -> Tensor:
    """`[K, D]`: the centroids of the k-means that made semantic tokens.

    Args:
        kmeans: its folder, or `mini`.
        tokens: the training set's.

    Raises:
        DataMismatch: if it is not their k-means.
    """
    loaded = load_kmeans(model_folder(kmeans, "kmeans"))
    tokens.require_same(loaded.tokens, ours="the training set", theirs=kmeans)
    return torch.from_numpy(loaded.centroids)


def centroid_dim(settings: TrainingSettings, tokens: TokenSpec) -> int:
    """`centroid_dim` of a network's configuration, as `recipe.centroids` has it.

    Args:
        settings: of the run.
        tokens: the training set's semantic ones.

    Returns:
        Numbers of a centroid of `recipe.kmeans`, or 0 where embeddings are a table.

    Raises:
        DataMismatch: if no k-means is named, or not that of the tokens, or `network` has it, too.
    """
    if "centroid_dim" in settings.network:
        raise DataMismatch("network.centroid_dim follows from recipe.centroids: set that")
    if not settings.recipe.get("centroids"):
        return 0
    if not settings.recipe.get("kmeans"):
        raise DataMismatch(
            "recipe.centroids makes embeddings of the k-means' centroids: name it with --kmeans"
        )
    return centroids_of(settings.recipe["kmeans"], tokens).shape[1]
