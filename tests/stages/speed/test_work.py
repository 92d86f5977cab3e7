"""How often work is run, what is extrapolated from how much of it, and what its share is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from stages.speed import work as module
from stages.speed.measured import Measured
from stages.speed.products import Product
from stages.speed.work import Limits, TooLong, Work, measure

CPU = torch.device("cpu")


class Pretending(Work):
    """Steps that take a second each by a clock of its own, after two seconds of getting ready."""

    flops = 9e9

    def __init__(self, steps: int, step_seconds: float = 1.0, ready: float = 2.0) -> None:
        self.steps = steps
        self.now = 0.0
        self.runs: list[int] = []
        self._step, self._ready = step_seconds, ready

    def run(self, steps: int) -> None:
        self.runs.append(steps)
        self.now += self._ready + self._step * steps

    def products(self, steps: int) -> Sequence[Product]:
        return [Product(M=1, K=1, N=1, count=steps)]

    def more(self, seconds: float) -> dict[str, float]:
        return {"steps_per_second": self.steps / seconds}

    def clock(self, call: Callable[[], object]) -> float:
        before = self.now
        call()
        return self.now - before


@pytest.fixture(autouse=True)
def half_a_second_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        def __init__(self, products: Sequence[Product], *more: object) -> None:
            self._seconds = sum(product.count / 2 for product in products)

        def measure(self, at_least: float) -> float:
            return self._seconds

    monkeypatch.setattr(module, "ProductClock", Clock)


def measured(work: Pretending, budget: float, repeats: int = 3) -> Measured:
    return measure(work, Limits(budget=budget, repeats=repeats), CPU, clock=work.clock)


def test_short_enough_is_run_whole() -> None:
    work = Pretending(4)
    found = measured(work, 100.0)
    assert work.runs == [1, 1, 4, 4, 4]  # one to warm up, one to foresee
    assert found.times == [6.0, 6.0, 6.0]
    assert (found.steps, found.steps_run, found.extrapolated) == (4, 4, False)
    assert found.spent == 18.0
    assert found.products == [2.0, 2.0, 2.0]
    assert found.share == pytest.approx(1 / 3)
    assert found.speed == 9e9 / 6
    assert found.more == {"steps_per_second": 4 / 6}


def test_as_many_runs_as_the_budget_holds() -> None:
    assert len(measured(Pretending(4), 13.0).times) == 2


def test_too_long_is_extrapolated_from_fewer_steps() -> None:
    """A run of one and one of some steps; the line through them finds what getting ready takes."""
    work = Pretending(40)
    found = measured(work, 60.0)
    assert (found.steps_run, found.extrapolated) == (9, True)
    assert work.runs[2:] == [1, 9, 1, 9, 1, 9]
    assert found.times == pytest.approx([42.0] * 3)
    assert found.spent == 3 * (3 + 11)
    # 4.5 of the 11 s of nine steps are products, and so is that part of the whole.
    assert found.share == pytest.approx(4.5 / 11)


def test_one_step_is_all_that_fits() -> None:
    found = measured(Pretending(40), 5.0)
    assert (found.steps_run, found.times) == (1, [120.0])


def test_not_even_one_step_fits() -> None:
    with pytest.raises(TooLong, match="one step of it takes 3 s, more than the 2 s"):
        measured(Pretending(4), 2.0)


def test_a_step_that_is_foreseen_to_be_too_long_is_not_begun() -> None:
    work = Pretending(3)
    with pytest.raises(TooLong, match="would take about 30 s"):
        measure(work, Limits(budget=20.0), CPU, roof=1e8, clock=work.clock)
    assert not work.runs


def test_a_blink_is_done_several_times() -> None:
    work = Pretending(1, step_seconds=0.03, ready=0.0)
    found = measured(work, 10.0, repeats=2)
    assert found.times == pytest.approx([0.03, 0.03])
    assert found.spent == pytest.approx(2 * 4 * 0.03)
    assert len(work.runs) == 2 + 2 * 4


def test_work_without_products_has_no_share() -> None:
    work = Pretending(1)
    work.products = lambda steps: ()  # type: ignore[method-assign]
    found = measured(work, 100.0)
    assert (found.share, found.intensity, found.shares) == (None, None, [])
