"""Starting a stage's embeddings and heads where SoundStorm's start: at what the tokens stand for.

See `stages.soundstorm.warm_start`. SoundStorm adds up a frame's tokens, of which each level is
worth what its codebook spreads; here a token stands alone, so every level has the deviation of a
random start, and a vector of its own by which it is told from the others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stages.audiolm.config import CoarseConfig, FineConfig, SemanticConfig
from stages.audiolm.network import StageNetwork
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
    first = config.first_semantic if isinstance(config, CoarseConfig) else 0
    network.table[first : first + count] = entries
    if isinstance(config, SemanticConfig):
        network.head_weight[0, :count] = 0.5 * config.width**-0.5 * entries


def _placed(codebooks: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """`[levels, C, D]` to `[levels, C, width]`, each level's around 0 with deviation 1."""
    placed = _unit(project(codebooks.float().cpu(), width, generator))
    return _unit(placed + OWN_NOISE * torch.randn(placed.shape, generator=generator))


def _unit(entries: Tensor) -> Tensor:
    """`[levels, C, width]`, each level's around 0 with deviation 1."""
    entries = entries - entries.mean(dim=1, keepdim=True)
    return entries / entries.std(dim=(1, 2), keepdim=True).clamp_min(1e-6)
