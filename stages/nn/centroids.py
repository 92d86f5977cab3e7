"""Embeddings of k-means units as a function of their centroids instead of a table of their own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_RIDGE = 1.0
"""Keeps what is fitted small where little is known."""


class CentroidEmbedding(nn.Module):
    """A linear function of a unit's centroid.

    Units that sound alike are alike from the start, those that training never met are no noise,
    and tens of thousands of them need no more weights than a few.
    """

    def __init__(self, units: int, dim: int, width: int) -> None:
        """Build it for K units of `dim` numbers; centroids are 0 until they are loaded or set."""
        super().__init__()
        self.centroids: Tensor
        self.register_buffer("centroids", torch.zeros(units, dim))
        self.weight = nn.Parameter(torch.empty(width, dim))
        self.bias = nn.Parameter(torch.empty(width))

    def reset_parameters(self, std: float) -> None:
        """Start so that a unit at a distance of `dim ** 0.5` from 0 has this deviation."""
        nn.init.normal_(self.weight, std=std * self.weight.shape[1] ** -0.5)
        nn.init.zeros_(self.bias)

    def forward(self, units: Tensor) -> Tensor:
        """`[...]` int64 in [0, K) to `[..., D]`."""
        return F.linear(F.embedding(units, self.centroids), self.weight, self.bias)

    def table(self) -> Tensor:
        """`[K, D]`: all of them."""
        return F.linear(self.centroids, self.weight, self.bias)

    @torch.no_grad()
    def fit(self, points: Tensor, embeddings: Tensor, weights: Tensor) -> None:
        """Become the function that comes nearest to given embeddings, by least squares.

        Args:
            points: `[N, dim]`.
            embeddings: `[N, D]`, theirs.
            weights: `[N]`, how much each counts.
        """
        ones = torch.ones(len(points), 1)
        known = torch.cat([points.float().cpu(), ones], dim=1).double()
        weight = weights.double().sqrt()[:, None]
        solved = torch.linalg.lstsq(weight * known, weight * embeddings.double().cpu()).solution
        self.weight.copy_(solved[:-1].T)
        self.bias.copy_(solved[-1])

    def places(self, former: Tensor, units: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Where other units are: the mean of these units' centroids at the same frames.

        To come near to what was known of the others, `fit` what was known at these places. (The
        other way about, from each centroid to what was known there, would shrink it by how coarse
        the others are.)

        Args:
            former: `[F]` int64 in [0, size), the others, frame by frame of some speech.
            units: `[F]` int64, these at the same frames.
            size: how many others there are.

        Returns:
            `[size, dim]`, and at how many frames each is, `[size]`.
        """
        return mean_where(self.centroids, units, former, size)


def mean_where(table: Tensor, units: Tensor, others: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """What units are, on average, where other units are; what is nowhere is the mean of all.

    Args:
        table: `[K, D]`, what each unit is.
        units: `[F]` int64, frame by frame.
        others: `[F]` int64 in [0, size), at the same frames.
        size: how many others there are.

    Returns:
        `[size, D]`, and at how many frames each is, `[size]`.
    """
    known = table.float().cpu()
    # Few of the pairs that could be are: a matrix of them all would not fit in memory.
    pairs, met = torch.unique(others * len(known) + units, return_counts=True)
    other, unit = pairs // len(known), pairs % len(known)
    counts = torch.zeros(size).index_add_(0, other, met.float())
    sums = torch.zeros(size, known.shape[1]).index_add_(0, other, known[unit] * met[:, None])
    sums[counts == 0] = sums.sum(dim=0) / counts.sum()
    return sums / counts.clamp_min(1.0)[:, None], counts


class CentroidScores(nn.Module):
    """Logits of units, of which each one's weights are a function of its centroid.

    A linear one would say of what comes next no more than about where it lies; this has a layer of
    `inner` numbers between.
    """

    def __init__(self, dim: int, width: int, *, inner: int = 512) -> None:
        """Build it for units of `dim` numbers and features of `width`."""
        super().__init__()
        self.inner = nn.Linear(dim, inner)
        self.outer = nn.Linear(inner, width + 1)
        self._fixed: tuple[Tensor, Tensor] | None = None

    def reset_parameters(self) -> None:
        """Logits of a deviation of about 1/2, as of a random table, and no bias."""
        # Of a trained table of 4,096 units' weights, a fit at these places foretold 81 % of the
        # variance of units that it was not told of; steeper or without biases, 74 to 80 %.
        nn.init.normal_(self.inner.weight, std=0.5)
        nn.init.normal_(self.inner.bias)
        width = self.outer.out_features - 1
        nn.init.normal_(self.outer.weight, std=0.5 * (width * self.outer.in_features) ** -0.5)
        nn.init.zeros_(self.outer.bias)

    @torch.no_grad()
    def fit(self, points: Tensor, weights: Tensor, biases: Tensor, counts: Tensor) -> None:
        """Come near to the weights of other units, by least squares of the last layer.

        Args:
            points: `[N, dim]`, where they are.
            weights: `[N, D]`.
            biases: `[N]`.
            counts: `[N]`, how much each counts.
        """
        hidden = F.gelu(self.inner(points.to(self.inner.weight))).cpu()
        known = torch.cat([hidden, torch.ones(len(points), 1)], dim=1).double()
        weighted = known.T * (counts.double() / counts.double().mean())
        square = weighted @ known + _RIDGE * torch.eye(known.shape[1]).double()
        wanted = torch.cat([weights, biases[:, None]], dim=1).double().cpu()
        solved = torch.linalg.solve(square, weighted @ wanted)
        self.outer.weight.copy_(solved[:-1].T)
        self.outer.bias.copy_(solved[-1])

    def fix(self, centroids: Tensor) -> None:
        """Make the weights of all units, to be used from here on: training is over, and the network
        is where it is to run."""
        self._fixed = self.weights(centroids)

    def forward(self, features: Tensor, centroids: Tensor) -> Tensor:
        """`[..., D]` and `[K, dim]` to `[..., K]`."""
        weights, biases = self.weights(centroids) if self._fixed is None else self._fixed
        return F.linear(features, weights, biases)

    def weights(self, centroids: Tensor) -> tuple[Tensor, Tensor]:
        """`[K, D]` and the biases `[K]`."""
        hidden = F.gelu(self.inner(centroids))
        outer, last = self.outer.weight, self.outer.bias
        weights = F.linear(hidden, outer[:-1], last[:-1])
        return weights, F.linear(hidden, outer[-1:], last[-1:])[:, 0]
