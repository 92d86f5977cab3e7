"""Straight lines through measured times, and what a line says of what was not measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Line:
    """Seconds as a straight line of a size: of a context, a number of passes or frames."""

    base: float
    """Seconds at size 0."""

    slope: float
    """Seconds a unit of size."""

    def at(self, size: float) -> float:
        return self.base + self.slope * size

    def total(self, sizes: range) -> float:
        """The sum over a range of sizes."""
        return self.base * len(sizes) + self.slope * sum(sizes)


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The least-squares line through `(size, seconds)` that falls nowhere and begins at no less
    than 0, since more work takes no less time: noise must not foretell negative seconds."""
    sizes, seconds = zip(*points, strict=True)
    level = Line(base=statistics.fmean(seconds), slope=0.0)
    if len(set(sizes)) == 1:
        return level
    slope, base = statistics.linear_regression(sizes, seconds)
    if slope < 0:
        return level
    if base < 0:
        slope, base = statistics.linear_regression(sizes, seconds, proportional=True)
    return Line(base=base, slope=slope)
