"""The random numbers of one row: decided by the seed and the row's id, never by its batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

COLDEST = 1e-20
"""The least temperature to divide logits by: by less, float32 could overflow. Below it all are 0,
since the likeliest has all of the distribution but for ties."""

_SMALLEST = 2.0**-60


@dataclass(frozen=True, kw_only=True)
class LevelNoise:
    """What the passes of one level, all but the greedy last, draw for each generated frame."""

    choice: Tensor
    """`[iterations - 1, N]` float32 in [0, 1): which candidate is sampled, as a quantile."""

    gumbel: Tensor
    """`[iterations - 1, N]` float32: standard Gumbel noise for the confidences."""


def row_generator(seed: int, row_id: str) -> torch.Generator:
    """A CPU generator seeded with SHA-256 of seed and id, alike on every machine and device."""
    digest = hashlib.sha256(f"{seed}/{row_id}".encode("utf-8", "surrogateescape")).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def row_noise(seed: int, row_id: str, frames: int, iterations: Sequence[int]) -> list[LevelNoise]:
    """All that a row draws while it is decoded, drawn beforehand.

    A candidate takes one number, by inverting its distribution, where C Gumbels would do the
    same; so a whole utterance needs few enough numbers to make them on the CPU, and no pass waits
    for the host.

    Args:
        seed: the user's.
        row_id: the row's.
        frames: N, the frames to generate.
        iterations: passes of each level.

    Returns:
        For each level its noise, of a shape that depends on this row alone.
    """
    generator = row_generator(seed, row_id)
    noise = []
    for count in iterations:
        uniform = torch.rand(2, count - 1, frames, dtype=torch.float64, generator=generator)
        gumbel = -torch.log(-torch.log(uniform[1].clamp(min=_SMALLEST)))
        # Rounding to float32 could give 1, which is past every candidate.
        choice = uniform[0].float().clamp(max=1 - 2.0**-24)
        noise.append(LevelNoise(choice=choice, gumbel=gumbel.float()))
    return noise


def row_quantiles(generator: torch.Generator, *shape: int) -> Tensor:
    """Float32 in [0, 1), to choose candidates with `choose`."""
    uniform = torch.rand(*shape, dtype=torch.float64, generator=generator)
    # Rounding to float32 could give 1, which is past every candidate.
    return uniform.float().clamp(max=1 - 2.0**-24)


def choose(weights: Tensor, quantiles: Tensor) -> Tensor:
    """Sample by inverting cumulative distributions.

    Args:
        weights: `[..., C]`, at least 0, of each candidate; they need not add up to 1.
        quantiles: `[...]` in [0, 1).

    Returns:
        `[...]` int64.
    """
    cumulative = weights.cumsum(dim=-1)
    total = cumulative[..., -1:]
    # A product rounded up to the total would be past the last candidate of any weight.
    threshold = torch.minimum(
        quantiles[..., None] * total, total.nextafter(torch.zeros_like(total))
    )
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
