"""Measured points, and the straight lines through them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.speed.lines import Line, fit


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A stretch of work that is measured, and the point of a line that it gives."""

    line: str
    """The name of the line."""

    size: float
    """Where on it the point lies."""

    units: int = 1
    """Equal pieces of work in the stretch; the point is of one of them."""

    measure: Callable[[], float]
    """Do it; seconds of the whole stretch."""


class Rounds:
    """The same probes, measured again and again."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        """Prepare; the first probe is done once unmeasured, to warm up."""
        self.probes = list(probes)
        self.found: list[list[float]] = []
        self.probes[0].measure()

    def measure(self) -> float:
        """Another round; gives its seconds."""
        self.found.append([probe.measure() for probe in self.probes])
        return sum(self.found[-1])

    def fill(self, *, rounds: int, budget: float) -> None:
        """Measure until there are `rounds`, or one more might exceed `budget` seconds in all; at
        least once."""
        while not self.found or (
            len(self.found) < rounds and self.seconds + sum(self.found[-1]) <= budget
        ):
            self.measure()

    @property
    def seconds(self) -> float:
        """Measured so far."""
        return sum(map(sum, self.found))

    def lines(self) -> list[dict[str, Line]]:
        """For each round, its lines by name."""
        return [self._fit(found) for found in self.found]

    def medians(self) -> list[dict[str, float | str]]:
        """Each probe's point, the median of its rounds, beside the line through them all."""
        middle = [statistics.median(column) for column in zip(*self.found, strict=True)]
        lines = self._fit(middle)
        return [
            {
                "line": probe.line,
                "size": probe.size,
                "seconds": seconds / probe.units,
                "on_line": lines[probe.line].at(probe.size),
            }
            for probe, seconds in zip(self.probes, middle, strict=True)
        ]

    def _fit(self, found: Sequence[float]) -> dict[str, Line]:
        points: dict[str, list[tuple[float, float]]] = {}
        for probe, seconds in zip(self.probes, found, strict=True):
            points.setdefault(probe.line, []).append((probe.size, seconds / probe.units))
        return {name: fit(own) for name, own in points.items()}
