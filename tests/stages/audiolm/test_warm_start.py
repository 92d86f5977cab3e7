"""Embeddings and heads that start where the codec's and the k-means' vectors lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.audiolm.model import StageModel
from stages.audiolm.warm_start import start_from_centroids, start_from_codebooks


def distances(vectors: Tensor) -> Tensor:
    """Between all pairs of `[N, D]`, flat."""
    return torch.pdist(vectors - vectors.mean(dim=0))


@pytest.mark.parametrize("name", ["coarse", "fine"])
def test_acoustic_entries_keep_their_distances(
    name: str, make_stage: Callable[..., StageModel[Any]]
) -> None:
    stage = make_stage(name)
    codebooks = torch.randn(5, 11, 4) * torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25])[:, None, None]
    before = stage.network.table.clone()
    start_from_codebooks(stage.network, codebooks, torch.Generator().manual_seed(0))
    levels = stage.config.levels
    table = stage.network.table[: levels * 11].view(levels, 11, -1)
    assert torch.equal(stage.network.table[levels * 11 :], before[levels * 11 :])
    for level in range(levels):
        near = torch.corrcoef(torch.stack((distances(table[level]), distances(codebooks[level]))))[
            0, 1
        ]
        assert near > 0.6
        spread = (table[level] - table[level].mean(dim=0)).std()
        assert float(spread) == pytest.approx(1, abs=0.1), "a token stands alone at every level"
    assert torch.pdist(table.mean(dim=1)).min() > 0.5, "levels are told from each other"
    first = levels - stage.config.groups
    for group in range(stage.config.groups):
        near = torch.corrcoef(
            torch.stack(
                (distances(stage.network.head_weight[group]), distances(codebooks[first + group]))
            )
        )[0, 1]
        assert near > 0.6


@pytest.mark.parametrize("name", ["semantic", "coarse"])
def test_semantic_entries_keep_their_distances(
    name: str, make_stage: Callable[..., StageModel[Any]]
) -> None:
    stage, centroids = make_stage(name), torch.randn(7, 4)
    start_from_centroids(stage.network, centroids, torch.Generator().manual_seed(0))
    first = 0 if name == "semantic" else stage.config.first_semantic
    own = stage.network.table[first : first + 7]
    pairs = [own] if name == "coarse" else [own, stage.network.head_weight[0, :7]]
    for vectors in pairs:
        near = torch.corrcoef(torch.stack((distances(vectors), distances(centroids))))[0, 1]
        assert near > 0.6
