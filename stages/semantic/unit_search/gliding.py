"""Points that go down the gradient to where their units lose less.

A search tries a few units near to where a frame's point is; where there are tens of thousands, all
of these are alike, and better ones lie further away. So the point moves first, and what is
heard on the way is the unit nearest to it, with gradients as if it were the point itself (a
straight-through estimate: Bengio et al. 2013; van den Oord et al. 2017).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stages.semantic.unit_search.searching import Loss

_BETAS = (0.9, 0.99)
"""Of Adam: a glide is too short for the usual 0.999."""


def glide(loss: Loss, points: Tensor, centroids: Tensor, *, steps: int, rate: float) -> Tensor:
    """Move points so that less is lost by the units nearest to them; never more.

    Args:
        loss: has gradients; that of a point may hang on its neighbours.
        points: `[T, dim]`, frames as the encoder gives them, or refined.
        centroids: `[K, dim]`; no point leaves the box around them.
        steps: how many times the units are heard; between two of them Adam moves the points.
        rate: of the first step; it falls to nothing in a straight line.

    Returns:
        `[T, dim]`; `points` itself if nothing better was met.
    """
    low, high = centroids.amin(dim=0), centroids.amax(dim=0)
    moved = points.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([moved], lr=rate, betas=_BETAS)
    best, least = points, math.inf
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        unit = centroids[torch.cdist(moved.detach(), centroids).argmin(dim=1)]
        lost = loss((moved + (unit - moved).detach())[None]).sum()
        if float(lost.detach()) < least:
            best, least = moved.detach().clone(), float(lost.detach())
        if step == steps - 1:  # no one would hear where it leads
            break
        (moved.grad,) = torch.autograd.grad(lost, moved)
        optimiser.step()
        with torch.no_grad():
            moved.copy_(moved.clamp(low, high))
    return best
