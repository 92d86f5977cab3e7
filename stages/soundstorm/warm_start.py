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

from stages.nn.centroids import mean_where
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

    Where they are a function of the centroids, it gets these, too, and they stay as they are.

    Args:
        network: its condition embeddings are changed.
        centroids: `[K, D]`, K the network's semantic tokens.
        generator: a CPU generator.
    """
    centres = centroids.float().cpu()
    placed = project(centres - centres.mean(dim=0), network.config.width, generator)
    placed = placed * (SCALE * CONDITION_DEVIATION / placed.std().clamp_min(1e-6))
    if network.semantic_units is not None:
        network.semantic_units.centroids.copy_(centres)
        network.semantic_units.fit(centres, placed, torch.ones(len(centres)))
        return
    placed = placed + OWN_NOISE * torch.randn(placed.shape, generator=generator)
    assert network.semantic_table is not None
    network.semantic_table.copy_(placed)


def is_condition(name: str) -> bool:
    """Whether a weight of this name says how semantic tokens are embedded."""
    return name.startswith("semantic_")


@torch.no_grad()
def carry_semantic(
    network: SoundStorm, former: Tensor, former_tokens: Tensor, tokens: Tensor
) -> None:
    """Take the condition embeddings that a network of other semantic tokens was trained to.

    Each new token gets the mean of what that one knew at the frames where the new token is; one
    that is nowhere gets the mean of all. Where embeddings are a function of centroids, see
    `CentroidEmbedding.places`.

    Args:
        network: its condition embeddings are changed.
        former: `[K', D]`, the trained embeddings.
        former_tokens: `[F]` int64, the tokens they are of, frame by frame of some speech.
        tokens: `[F]` int64, the new ones at the same frames.
    """
    if network.semantic_units is not None:
        points, counts = network.semantic_units.places(former_tokens, tokens, len(former))
        network.semantic_units.fit(points, former, counts)
        return
    assert network.semantic_table is not None
    size = network.config.semantic_codebook_size
    network.semantic_table.copy_(mean_where(former, former_tokens, tokens, size)[0])


def project(vectors: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """`[N, D]` to `[N, width]` by a random matrix, which keeps angles and distances about."""
    dim = vectors.shape[-1]
    projection = torch.randn(dim, width, generator=generator) * dim**-0.5
    return torch.matmul(vectors, projection)
