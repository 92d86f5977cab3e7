"""Measuring work that can be called: whole, or the first passes of it, beside its products."""

from __future__ import annotations

import math
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from stages.speed.clock import timed
from stages.speed.lines import fit
from stages.speed.measured import Measured
from stages.speed.memory import peak_memory
from stages.speed.peak import ProductClock
from stages.speed.precisions import FLOATS, Numbers
from stages.speed.products import Product

PRODUCTS_SHARE = 0.3
"""Seconds that products are timed before and after a run, as a share of the run's."""

TRIAL_SHARE = 0.25
"""Of the budget: a first step that takes less is done again, since the first of all is slow."""

SHORTEST_RUN = 0.1
"""Seconds: work that takes less is done several times in a run, and its time is their mean."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much to measure."""

    budget: float = 15.0
    """Seconds that the measured runs of a cell and the products beside them may take together."""

    repeats: int = 5
    """Runs of a cell, if the budget allows."""


class TooLong(Exception):  # noqa: N818 - an answer, not an error
    """Not even one step fits the budget; says so in words."""


class Work(ABC):
    """Something to do, in steps that are alike: the passes of a decoding; or in one."""

    flops: float | None = None
    """Of all of it, by its shapes."""

    steps: int = 1

    @abstractmethod
    def run(self, steps: int) -> None:
        """Do the first so many steps, or all."""

    def products(self, steps: int) -> Sequence[Product]:
        """The matrix products of so many steps; none where they are not what it is made of."""
        del steps
        return ()

    def more(self, seconds: float) -> dict[str, float]:
        """What else to tell of all of it having taken so long."""
        del seconds
        return {}


Timed = Callable[[Callable[[], object]], float]
"""Seconds of a call."""


def measure(
    work: Work,
    limits: Limits,
    device: torch.device,
    *,
    numbers: Numbers = FLOATS,
    roof: float | None = None,
    base_memory: int | None = None,
    clock: Timed | None = None,
) -> Measured:
    """Time a work, whole if that fits the budget, else as many steps as do.

    One step comes first, unmeasured: it warms up, and what it needs of memory is what all need.
    The products are timed before and after each run, so that whatever slows the machine slows both.

    Args:
        work: what to do.
        limits: how often, and for how long.
        device: where.
        numbers: that its products are made of.
        roof: FLOP/s of the machine, to foresee a step that is too long.
        base_memory: what `Measured` keeps under that name.
        clock: of the runs.

    Raises:
        TooLong: if one step takes more than the budget.
    """
    clock = clock or partial(timed, device=device)
    if roof and work.flops:
        _require_short(work.flops / work.steps / roof, limits, "would take about")
    step = clock(lambda: work.run(1))
    memory = peak_memory(device)
    if step < TRIAL_SHARE * limits.budget:
        step = min(step, clock(lambda: work.run(1)))
    _require_short(step, limits, "takes")
    steps = _affordable(step, work.steps, limits.budget)
    products = work.products(steps)
    alone = ProductClock(products, numbers, device) if products else None
    rounds = _Rounds(work, steps, alone, step, clock)
    rounds.fill(limits)
    whole = work.products(work.steps)
    times = rounds.times()
    return Measured(
        times=times,
        steps=work.steps,
        steps_run=steps,
        spent=rounds.spent,
        flops=work.flops,
        moved=numbers.moved_by(whole) if whole else None,
        products=rounds.products(times),
        base_memory=base_memory,
        peak_memory=memory,
        more=work.more(statistics.median(times)),
    )


def _require_short(step: float, limits: Limits, words: str) -> None:
    if step > limits.budget:
        raise TooLong(
            f"one step of it {words} {step:.3g} s, more than the {limits.budget:g} s of "
            "--budget-seconds"
        )


def _affordable(step: float, steps: int, budget: float) -> int:
    """All steps if they fit the budget, else as many as let two rounds of stretches fit it."""
    if step * steps <= budget:
        return steps
    return max(1, min(steps - 1, int(budget / (2 * step)) - 1))


class _Rounds:
    """Runs, one step beside each where they are not whole, and the products around them."""

    def __init__(
        self, work: Work, steps: int, alone: ProductClock | None, step: float, clock: Timed
    ) -> None:
        self._work, self._steps, self._alone, self._clock = work, steps, alone, clock
        self._calls = max(1, math.ceil(SHORTEST_RUN / max(steps * step, 1e-6)))
        self._slice = PRODUCTS_SHARE * self._calls * steps * step
        self._runs: list[float] = []
        self._singles: list[float] = []
        self._slices: list[float] = []
        self.spent = 0.0
        """Seconds of runs and single steps."""

    def fill(self, limits: Limits) -> None:
        """Measure as often as `limits` says, at least once."""
        self._measure_products()
        taken: list[float] = []
        while not taken or (
            len(taken) < limits.repeats and sum(taken) + taken[-1] <= limits.budget
        ):
            taken.append(self._run() + self._measure_products())

    def _run(self) -> float:
        """Another round; gives its seconds."""
        single = 0.0
        if 1 < self._steps < self._work.steps:
            single = self._clock(lambda: self._work.run(1))
            self._singles.append(single)
        run = self._clock(self._several)
        self._runs.append(run / self._calls)
        self.spent += single + run
        return single + run

    def _several(self) -> None:
        for _ in range(self._calls):
            self._work.run(self._steps)

    def _measure_products(self) -> float:
        """Another slice of products; gives its seconds."""
        if self._alone is None:
            return 0.0
        start = time.perf_counter()
        self._slices.append(self._alone.measure(self._slice))
        return time.perf_counter() - start

    def times(self) -> list[float]:
        """Seconds of all the work, by each round."""
        if self._steps == self._work.steps:
            return self._runs
        if not self._singles:
            return [run * self._work.steps for run in self._runs]
        return [
            fit([(1, single), (self._steps, run)]).at(self._work.steps)
            for single, run in zip(self._singles, self._runs, strict=True)
        ]

    def products(self, times: Sequence[float]) -> list[float]:
        """Seconds of all the work's products, by each round: their share of what was run is that
        of the whole."""
        if self._alone is None:
            return []
        around = zip(self._slices, self._slices[1:], strict=False)
        means = [(before + after) / 2 for before, after in around]
        return [
            mean / run * whole for mean, run, whole in zip(means, self._runs, times, strict=True)
        ]
