"""One cell of the figure: a system making so many seconds of audio, run whole or extrapolated."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from benchmarks.runtime.lines import Rounds
from benchmarks.runtime.system import System
from stages.speed.clock import timed
from stages.speed.cost import Cost

PROBES_SHARE = 0.1
"""Of the budget, for more than one round of probes where runs turn out to be whole."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A time and what it rests on; times in seconds."""

    size: str
    """Name of the models' size."""

    system: str
    """`System.name`."""

    label: str

    parameters: int

    audio: float
    """Seconds of audio made."""

    runtime: float
    """Median of the runs, or of what each round of probes predicts."""

    fastest: float

    slowest: float

    runs: int
    """Whole runs; if extrapolated, rounds of probes."""

    extrapolated: bool
    """Whether no run was whole."""

    measured: float
    """Seconds that were really measured: in runs, or in probes, which a system's lengths share."""

    predicted: float
    """What the probes say, also where runs were whole: how good an extrapolation is."""

    cost: Cost

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "cost": self.cost.to_json()}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much to measure."""

    budget: float = 60.0
    """Seconds that the measured runs of a cell may take together."""

    repeats: int = 3
    """Runs of a cell, if the budget allows."""


class Measuring:
    """Measures the cells of one system."""

    def __init__(self, system: System, size: str, limits: Limits, device: torch.device) -> None:
        self._system, self._size, self._limits, self._device = system, size, limits, device
        self._rounds: dict[tuple[tuple[str, float], ...], Rounds] = {}

    def cells(self, lengths: Sequence[Fraction]) -> Iterator[Cell]:
        """A cell for each length of audio, as it is done."""
        for seconds in lengths:
            yield self._cell(seconds)

    def points(self) -> list[dict[str, Any]]:
        """All that was probed."""
        return [
            {"size": self._size, "system": self._system.name, "rounds": len(rounds.found), **point}
            for rounds in self._rounds.values()
            for point in rounds.medians()
        ]

    def _cell(self, seconds: Fraction) -> Cell:
        """Probe first; run whole if the probes say that a run is within the budget."""
        limits = self._limits
        probes = self._system.probes(seconds)
        key = tuple((probe.line, probe.size) for probe in probes)
        if key not in self._rounds:
            self._rounds[key] = Rounds(probes)
        rounds = self._rounds[key]
        rounds.fill(rounds=limits.repeats, budget=PROBES_SHARE * limits.budget)
        predicted = statistics.median(self._predictions(rounds, seconds))
        extrapolated = predicted > limits.budget
        if extrapolated:
            rounds.fill(rounds=limits.repeats, budget=limits.budget)
        predictions = self._predictions(rounds, seconds)
        times = predictions if extrapolated else self._runs(seconds, predicted)
        return Cell(
            size=self._size,
            system=self._system.name,
            label=self._system.label,
            parameters=self._system.parameters,
            audio=float(seconds),
            runtime=statistics.median(times),
            fastest=min(times),
            slowest=max(times),
            runs=len(times),
            extrapolated=extrapolated,
            measured=rounds.seconds if extrapolated else sum(times),
            predicted=statistics.median(predictions),
            cost=self._system.cost(seconds),
        )

    def _predictions(self, rounds: Rounds, seconds: Fraction) -> list[float]:
        """Of each round by itself."""
        return [self._system.predict(lines, seconds) for lines in rounds.lines()]

    def _runs(self, seconds: Fraction, predicted: float) -> list[float]:
        """Seconds of whole runs: as many as fit the budget, one at least. The probes have warmed
        up what there is; where there is time, a whole run does so too."""
        budget, repeats = self._limits.budget, self._limits.repeats
        if 2 * predicted <= budget:
            self._system.run(seconds)
        times: list[float] = []
        while not times or (len(times) < repeats and sum(times) + times[-1] <= budget):
            times.append(timed(lambda: self._system.run(seconds), self._device))
        return times
