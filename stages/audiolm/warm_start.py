"""Starting a stage's embeddings and heads where SoundStorm's start: at what the tokens stand for.

See `stages.soundstorm.warm_start`. SoundStorm adds up a frame's tokens, of which each level is
worth what its codebook spreads; here a token stands alone, so every level has the deviation of a
random start, and a vector of its own by which it is told from the others.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stages.audiolm.config import CoarseConfig, FineConfig, SemanticConfig
from stages.audiolm.network import StageNetwork
from stages.nn.centroids import mean_where
from stages.soundstorm.warm_start import OWN_NOISE, project

LEVEL_DEVIATION = 0.5
"""Of the vector that tells a level, beside entries of deviation 1."""


@torch.no_grad()
def start_from_codebooks(
    network: StageNetwork, codebooks: Tensor, generator: torch.Generator
) -> None:
    """Put acoustic tokens' embeddings and heads where the codec's entries lie.

    Args:
        network: of the coarse or the fine stage.
        codebooks: `[Q, C, D]` (`Codec.codebooks`); Q may be more than the stage has.
        generator: a CPU generator.
    """
    config = network.config
    assert isinstance(config, (CoarseConfig, FineConfig))
    levels, size = config.levels, config.codebook_size
    entries = _placed(codebooks[:levels], config.width, generator)  # [levels, C, width]
    own = LEVEL_DEVIATION * torch.randn(levels, 1, config.width, generator=generator)
    network.table[: levels * size] = (entries + own).flatten(0, 1)
    network.head_weight.copy_(0.5 * config.width**-0.5 * entries[levels - config.groups :])


@torch.no_grad()
def start_from_centroids(
    network: StageNetwork, centroids: Tensor, generator: torch.Generator
) -> None:
    """Put semantic tokens' embeddings, and their heads where they have any, where clusters lie.

    Args:
        network: of the semantic or the coarse stage.
        centroids: `[K, D]`, K the stage's semantic tokens.
        generator: a CPU generator.
    """
    config = network.config
    assert isinstance(config, (SemanticConfig, CoarseConfig))
    count = config.semantic_codebook_size
    entries = _placed(centroids[None], config.width, generator)[0]  # [K, width]
    scores, even = 0.5 * config.width**-0.5 * entries, torch.ones(count)
    if network.units is not None:
        network.units.centroids.copy_(centroids)
        network.units.fit(centroids, entries, even)
        if network.unit_scores is not None:
            network.unit_scores.fit(centroids, scores, torch.zeros(count), even)
        return
    semantic = config.semantic_entries
    network.table[semantic.start : semantic.stop] = entries
    if isinstance(config, SemanticConfig):
        network.head_weight[0, :count] = scores


@torch.no_grad()
def carry_stage(
    network: StageNetwork, former: StageNetwork, former_tokens: Tensor, tokens: Tensor
) -> None:
    """Take all from a stage of other semantic tokens that is not theirs, and their embeddings.

    As `stages.soundstorm.warm_start.carry_semantic` does it, and the same with the weights of their
    logits, less the logarithm of how many of them share what a former one was worth.

    Args:
        network: is changed.
        former: of the same stage and shape.
        former_tokens: `[F]` int64, `former`'s, frame by frame of some speech.
        tokens: `[F]` int64, the network's at the same frames.
    """
    semantic, known = network.config.semantic_entries, former.unit_table()
    size = len(known)
    network.transformer.load_state_dict(former.transformer.state_dict())
    network.table[_own_rows(network)] = former.table[_own_rows(former)].to(network.table)
    generated = network.config.first_entry(0) in semantic
    codes = slice(-1, None) if generated else slice(None)  # of semantic ones, the end
    network.head_weight[:, codes].copy_(former.head_weight[:, codes])
    network.head_bias[:, codes].copy_(former.head_bias[:, codes])
    if network.units is not None:
        points, counts = network.units.places(former_tokens, tokens, size)
        network.units.fit(points, known, counts)
    else:
        means, _ = mean_where(known, former_tokens, tokens, len(semantic))
        network.table[semantic.start : semantic.stop].copy_(means)
    if not generated:
        return
    weights, biases = former.unit_weights()
    biases = biases - math.log(len(semantic) / size)
    if network.unit_scores is not None:
        network.unit_scores.fit(points, weights, biases, counts)
        return
    scores = torch.cat([weights, biases[:, None]], dim=1)
    means, _ = mean_where(scores, former_tokens, tokens, len(semantic))
    network.head_weight[0, :-1].copy_(means[:, :-1])
    network.head_bias[0, :-1].copy_(means[:, -1])


def _own_rows(network: StageNetwork) -> Tensor:
    """Where in its table a stage has what is no semantic token."""
    rows, semantic = torch.arange(len(network.table)), network.config.semantic_entries
    if network.units is not None:
        return rows
    return rows[(rows < semantic.start) | (rows >= semantic.stop)]


def _placed(codebooks: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """`[levels, C, D]` to `[levels, C, width]`, each level's around 0 with deviation 1."""
    placed = _unit(project(codebooks.float().cpu(), width, generator))
    return _unit(placed + OWN_NOISE * torch.randn(placed.shape, generator=generator))


def _unit(entries: Tensor) -> Tensor:
    """`[levels, C, width]`, each level's around 0 with deviation 1."""
    entries = entries - entries.mean(dim=1, keepdim=True)
    return entries / entries.std(dim=(1, 2), keepdim=True).clamp_min(1e-6)
