"""The search: neighbouring units are tried, and kept where the loss around them falls.

Gradients say which of a frame's candidates should help (as in Ebrahimi et al. 2018, HotFlip), and
trial says which do. That a quantiser may be chosen by what its decoder makes of it, not by
the nearest centroid, is the analysis-by-synthesis of CELP (Schroeder and Atal 1985).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor], Tensor]
"""From `[B, T, dim]` points to `[B, T]`, what is lost at each."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How long and how far to search."""

    steps: int = 40
    """Times that a glide (`gliding.py`) hears its points' units, before the rounds."""

    rate: float = 0.05
    """Of a glide's first step; a bottleneck's points are in a cube from -1 to 1."""

    rounds: int = 6
    """Of trials, each begun with a gradient."""

    trials: int = 4
    """Changed sequences that a round tries at once."""

    candidates: int = 12
    """Nearest centroids of a frame that it may take."""

    share: float = 0.15
    """Of a sequence's units that a trial changes."""

    reach: int = 6
    """Units before and after a change in which the loss must fall for it to be kept."""

    patience: float = 0.8
    """What a round in which nothing helped leaves of `share`."""


EFFORTS = {"quick": SearchSettings(steps=10, rate=0.1, rounds=2), "full": SearchSettings()}
"""By name; `docs/search.md` says what each is worth and how long it takes."""


def search(
    loss: Loss,
    points: Tensor,
    centroids: Tensor,
    settings: SearchSettings,
    generator: torch.Generator,
) -> Tensor:
    """Find units of which less is lost than of the nearest ones; never more.

    Args:
        loss: has gradients; that of a point may hang on its neighbours.
        points: `[T, dim]`, frames as the encoder gives them, refined or moved further (`gliding`).
        centroids: `[K, dim]`.
        settings: how long, how far.
        generator: on the CPU; makes the trials.

    Returns:
        `[T]` int64.
    """
    count = min(settings.candidates, len(centroids))
    near = torch.cdist(points, centroids).topk(count, largest=False).indices  # [T, C]
    units, share = near[:, 0].clone(), settings.share
    at = torch.arange(len(units), device=units.device)
    point, least = _graded(loss, units, centroids)
    slope: Tensor | None = None
    for _ in range(settings.rounds if count > 1 else 0):
        if slope is None:
            (slope,) = torch.autograd.grad(least.sum(), point)
            least = least.detach()
        tried, changed = _trials(
            slope[0], units, near, centroids, settings.trials, share, generator
        )
        with torch.no_grad():
            lost = loss(centroids[tried])  # [B, T]
        best, who = _around(lost - least, settings.reach).min(dim=0)
        kept = (best < 0) & changed[who, at]
        joined = torch.where(kept, tried[who, at], units)
        joined_point, together = _graded(loss, joined, centroids)
        # What helped in trials of its own need not help beside the others' changes.
        whole = int(lost.sum(dim=1).argmin())
        if together.detach().sum() < least.sum():
            units, point, least, slope = joined, joined_point, together, None
        elif lost[whole].sum() < least.sum():
            units, slope = tried[whole], None
            point, least = _graded(loss, units, centroids)
        else:
            share *= settings.patience
    return units


def _graded(loss: Loss, units: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The units' points, `[1, T, dim]`, and what is lost at each, `[T]`, with gradients to them."""
    point = centroids[units][None].requires_grad_(True)
    return point, loss(point)[0]


def _trials(
    slope: Tensor,
    units: Tensor,
    near: Tensor,
    centroids: Tensor,
    trials: int,
    share: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Sequences with some units changed, drawn by what the gradient `[T, dim]` promises: `[B, T]`,
    and which were changed, `[B, T]` bool."""
    move = centroids[near] - centroids[units][:, None]  # [T, C, dim]
    promised = -(slope[:, None] * move).sum(dim=-1)  # [T, C]
    promised = promised / promised.std().clamp_min(1e-12)
    promised = promised.masked_fill(near == units[:, None], -torch.inf)
    pick = (promised + _gumbel((trials, *near.shape), generator, near)).argmax(dim=-1)  # [B, T]
    worth = promised.expand(trials, *near.shape).gather(2, pick[..., None])[..., 0]
    few = max(1, int(len(units) * share))
    first = (worth + _gumbel(worth.shape, generator, near)).topk(few, dim=1).indices
    changed = torch.zeros_like(worth, dtype=torch.bool).scatter_(1, first, True)
    picked = near.expand(trials, *near.shape).gather(2, pick[..., None])[..., 0]
    return torch.where(changed, picked, units), changed


def _gumbel(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    return -torch.empty(shape).exponential_(generator=generator).log().to(like.device)


def _around(values: Tensor, reach: int) -> Tensor:
    """Sums over each frame and `reach` on both its sides: `[B, T]`."""
    width = 2 * reach + 1
    return F.avg_pool1d(values[:, None], width, 1, reach)[:, 0] * width
