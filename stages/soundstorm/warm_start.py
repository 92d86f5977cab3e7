"""Starting embeddings and heads from the geometry of the tokens instead of from noise.

A random table must learn from data alone which of its entries sound alike. The codec's codebooks
and the k-means' centroids already say it, so a random projection of them, which keeps distances,
is a better place to start from; heads that point at the same places start with like logits for
like entries. It decides where training starts and nothing else: all tables are as free to move, and
the network is the paper's (section 3.1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from stages.soundstorm.network import SoundStorm

SCALE = 2.0
"""Times the deviation of a random start: what is meant is then heard above the Conformer's first,
random answers."""

CONDITION_DEVIATION = 0.6
"""Of the condition's embeddings before `SCALE`: near that of all the acoustic levels together."""

OWN_NOISE = 0.05
"""Deviation of what tells entries apart that the codebooks have at one place."""


@torch.no_grad()
def start_acoustic(network: SoundStorm, codebooks: Tensor, generator: torch.Generator) -> None:
    """Put the acoustic tokens' embeddings and heads where the codec's entries lie.

    Args:
        network: its embeddings and heads are changed; mask and Conformer are not.
        codebooks: `[Q, C, D]`, vectors that add up to a frame (`Codec.codebooks`); Q may be more
            than the network's.
        generator: a CPU generator.
    """
    levels, size, width = network.config.levels, network.config.codebook_size, network.config.width
    entries = codebooks[:levels].float().cpu()
    entries = entries - entries.mean(dim=1, keepdim=True)
    placed = project(entries.flatten(0, 1), width, generator).view(levels, size, width)
    variance = placed.var(dim=1).mean(dim=1).sum()  # of the sum over levels
    placed = placed * (SCALE * (levels / (levels + 1) / variance.clamp_min(1e-12)).sqrt())
    placed = placed + OWN_NOISE * levels**-0.5 * torch.randn(placed.shape, generator=generator)
    network.acoustic_table[: levels * size] = placed.flatten(0, 1).to(network.acoustic_table)
    # Every level's logits start at a deviation of 1/2, as in a random start.
    deviation = placed.std(dim=(1, 2), keepdim=True)
    network.head_weight.copy_(placed * (0.5 * width**-0.5 / deviation))


@torch.no_grad()
def start_semantic(network: SoundStorm, centroids: Tensor, generator: torch.Generator) -> None:
    """Put the semantic tokens' embeddings where the clusters' centres lie.

    Args:
        network: its condition embeddings are changed.
        centroids: `[K, D]`, K the network's semantic tokens.
        generator: a CPU generator.
    """
    centres = centroids.float().cpu()
    placed = project(centres - centres.mean(dim=0), network.config.width, generator)
    placed = placed * (SCALE * CONDITION_DEVIATION / placed.std().clamp_min(1e-6))
    placed = placed + OWN_NOISE * torch.randn(placed.shape, generator=generator)
    network.semantic_table.copy_(placed)


@torch.no_grad()
def carry_semantic(former: Tensor, former_tokens: Tensor, tokens: Tensor, size: int) -> Tensor:
    """Condition embeddings for other semantic tokens than a network was trained on.

    Each new token gets the mean of what the network knew at the frames where the new token is; one
    that is nowhere gets the mean of all.

    Args:
        former: `[K', D]`, the trained embeddings.
        former_tokens: `[F]` int64, the tokens they are of, frame by frame of some speech.
        tokens: `[F]` int64, the new ones at the same frames.
        size: K, how many new ones there are.

    Returns:
        `[K, D]`.
    """
    joint = torch.zeros(size, len(former)).index_put_(
        (tokens, former_tokens), torch.ones(len(tokens)), accumulate=True
    )
    joint[joint.sum(dim=1) == 0] = joint.sum(dim=0)
    return joint / joint.sum(dim=1, keepdim=True) @ former.float().cpu()


def project(vectors: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """`[N, D]` to `[N, width]` by a random matrix, which keeps angles and distances about."""
    dim = vectors.shape[-1]
    projection = torch.randn(dim, width, generator=generator) * dim**-0.5
    return torch.matmul(vectors, projection)
