"""Embeddings and heads that start where the codec's and the k-means' vectors lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.audiolm.model import StageModel
from stages.audiolm.warm_start import carry_stage, start_from_centroids, start_from_codebooks
from stages.nn.centroids import CentroidScores


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


@pytest.mark.parametrize("name", ["semantic of centroids", "coarse of centroids"])
def test_embeddings_that_are_a_function_of_centroids_keep_their_distances(
    name: str, make_stage: Callable[..., StageModel[Any]]
) -> None:
    network, centroids = make_stage(name).network, torch.randn(7, 3)
    before = network.table.clone()
    start_from_centroids(network, centroids, torch.Generator().manual_seed(0))
    near = torch.corrcoef(torch.stack((distances(network.unit_table()), distances(centroids))))
    assert near[0, 1] > 0.6
    assert torch.equal(network.table, before)
    if name == "semantic of centroids":
        near = torch.corrcoef(
            torch.stack((distances(network.unit_weights()[0]), distances(centroids)))
        )
        assert near[0, 1] > 0.6
    assert torch.equal(network.units.centroids, centroids)


@pytest.mark.parametrize("of", ["", " of centroids"])
@pytest.mark.parametrize("name", ["semantic", "coarse"])
def test_a_stage_of_other_semantic_tokens_is_carried_on(
    name: str, of: str, make_stage: Callable[..., StageModel[Any]]
) -> None:
    """The same tokens, named from the end: what it knew of each it knows under its new name."""
    former, network = make_stage(name).network, make_stage(name + of, seed=1).network
    places = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    if network.units is not None:
        network.units.centroids.copy_(places)
    semantic = former.config.semantic_entries
    known = places.flip(0) @ torch.randn(3, 16)  # so that a function of the centroids can be it
    former.table[semantic.start : semantic.stop] = known
    tokens = torch.arange(7)
    carry_stage(network, former, tokens, 6 - tokens)
    torch.testing.assert_close(network.unit_table(), known.flip(0), atol=1e-4, rtol=1e-4)
    entries = torch.tensor([[*range(semantic.start), *range(semantic.stop, former.config.entries)]])
    features = former.features(entries, entries)
    torch.testing.assert_close(network.features(entries, entries), features)
    wanted, logits = former.head(0, features), network.head(0, features)
    if name == "semantic":
        torch.testing.assert_close(logits[..., -1], wanted[..., -1])  # the end
        wanted = torch.cat([wanted[..., :-1].flip(-1), wanted[..., -1:]], dim=-1)
    if of and name == "semantic":  # a fit to seven units is kept small, and falls somewhat short
        assert torch.corrcoef(torch.stack((logits.flatten(), wanted.flatten())))[0, 1] > 0.9
    else:
        torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=1e-4)


def test_weights_of_logits_that_are_a_function_of_places_are_found_again() -> None:
    torch.manual_seed(0)
    scores, points = CentroidScores(3, 16), torch.rand(2_000, 3)
    scores.reset_parameters()
    weights, biases = points @ torch.randn(3, 16), points @ torch.randn(3)
    scores.fit(points, weights, biases, torch.ones(2_000))
    for found, known in zip(scores.weights(points), (weights, biases), strict=True):
        assert (found.detach() - known).square().mean() < 0.01 * known.var()
