"""A start from codebooks and centroids: what is near stays near, and nothing else moves."""

from __future__ import annotations

from collections.abc import Callable

import torch

from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.network import SoundStorm
from stages.soundstorm.warm_start import (
    carry_semantic,
    is_condition,
    start_acoustic,
    start_semantic,
)

LEVELS, CODES, CLUSTERS, WIDTH = 3, 40, 50, 128


def build(centroid_dim: int = 0) -> SoundStorm:
    torch.manual_seed(0)
    return SoundStorm(
        SoundStormConfig(
            levels=LEVELS, codebook_size=CODES, semantic_codebook_size=CLUSTERS, layers=1,
            heads=2, width=WIDTH, feed_forward=16, centroid_dim=centroid_dim,
        )
    )  # fmt: skip


def changed(
    start: Callable[[SoundStorm], None], *, centroid_dim: int = 0
) -> tuple[SoundStorm, set[str]]:
    """The network after `start`, and the names of the weights that it changed."""
    network, before = build(centroid_dim), build(centroid_dim).state_dict()
    start(network)
    now = network.state_dict()
    return network, {name for name in now if not torch.equal(now[name], before[name])}


def correlation(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Of the distances between all pairs of rows."""
    pair = torch.stack((torch.pdist(ours), torch.pdist(theirs)))
    return float(torch.corrcoef(pair)[0, 1])


def test_acoustic_tokens_that_sound_alike_start_alike() -> None:
    random = torch.Generator().manual_seed(1)
    codebooks = torch.randn(LEVELS + 1, CODES, 5, generator=random)
    codebooks[0] *= 30  # a first level that is far louder than the others, and off centre
    codebooks[0] += 100
    network, names = changed(lambda net: start_acoustic(net, codebooks, random))
    assert names == {"acoustic_table", "head_weight"}
    assert torch.equal(network.acoustic_table[-1], build().acoustic_table[-1])  # the mask's
    tables = network.acoustic_table[:-1].detach().view(LEVELS, CODES, WIDTH)
    for level in range(LEVELS):
        assert correlation(tables[level], codebooks[level]) > 0.85
        head = network.head_weight.detach()[level]
        assert correlation(head, codebooks[level]) > 0.85
        assert abs(float(head.std()) * WIDTH**0.5 - 0.5) < 0.01
    variances = tables.var(dim=1).mean(dim=1)
    assert abs(float(variances.sum()) / 4 - LEVELS / (LEVELS + 1)) < 0.05
    assert float(variances[0] / variances[1]) > 100  # as much louder as in the codec, but for noise


def test_an_unused_level_starts_without_a_place() -> None:
    random = torch.Generator().manual_seed(1)
    codebooks = torch.randn(LEVELS, CODES, 5, generator=random)
    codebooks[1] = 7.0
    network, _ = changed(lambda net: start_acoustic(net, codebooks, random))
    assert bool(network.acoustic_table.isfinite().all())
    assert float(network.acoustic_table.detach()[CODES : 2 * CODES].std()) < 0.1


def test_semantic_tokens_start_where_their_clusters_lie() -> None:
    random = torch.Generator().manual_seed(2)
    centroids = 9 + torch.randn(CLUSTERS, 6, generator=random)
    network, names = changed(lambda net: start_semantic(net, centroids, random))
    assert names == {"semantic_table"}
    assert network.semantic_table is not None
    assert correlation(network.semantic_table.detach(), centroids) > 0.85
    assert abs(float(network.semantic_table.detach().std()) - 1.2) < 0.1


def test_embeddings_that_are_a_function_of_centroids_start_there() -> None:
    random = torch.Generator().manual_seed(2)
    centroids = 9 + torch.randn(CLUSTERS, 6, generator=random)
    network, names = changed(lambda net: start_semantic(net, centroids, random), centroid_dim=6)
    assert names == {f"semantic_units.{name}" for name in ("centroids", "weight", "bias")}
    table = network.condition_table().detach()
    assert correlation(table, centroids) > 0.85
    assert abs(float(table.std()) - 1.2) < 0.1
    tokens = torch.tensor([[7, 3, CLUSTERS]])  # the last says nothing
    embedded = network.embed_semantic(tokens).detach()[0]
    torch.testing.assert_close(embedded[:2], table[[7, 3]])
    assert not embedded[2].any()


def test_new_tokens_start_from_what_was_known_where_they_are() -> None:
    former = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(2))
    old = torch.tensor([0, 0, 1, 2, 2, 2])
    new = torch.tensor([1, 1, 1, 0, 0, 3])
    network, names = changed(lambda net: carry_semantic(net, former, old, new))
    assert names == {"semantic_table"} == {name for name in names if is_condition(name)}
    carried = network.condition_table().detach()
    torch.testing.assert_close(carried[0], former[2])
    torch.testing.assert_close(carried[1], (2 * former[0] + former[1]) / 3)
    torch.testing.assert_close(carried[3], former[2])
    mean = (2 * former[0] + former[1] + 3 * former[2]) / 6
    torch.testing.assert_close(carried[2], mean)
    torch.testing.assert_close(carried[4], mean)


def test_a_function_of_centroids_comes_near_to_what_was_known() -> None:
    """The very function, where what was known is one."""
    random = torch.Generator().manual_seed(3)
    centroids = torch.randn(CLUSTERS, 6, generator=random)
    wanted = centroids @ torch.randn(6, WIDTH, generator=random) + 3
    tokens = torch.arange(CLUSTERS - 1)  # the last is nowhere, and does not count

    def start(network: SoundStorm) -> None:
        start_semantic(network, centroids, random)
        carry_semantic(network, wanted, tokens, tokens)

    network, _ = changed(start, centroid_dim=6)
    torch.testing.assert_close(network.condition_table().detach(), wanted, atol=1e-4, rtol=1e-4)
