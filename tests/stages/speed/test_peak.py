"""What is timed as the machine's best is the product that it says it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from stages.speed import peak
from stages.speed.peak import ProductClock, matrix_roof, memory_roof
from stages.speed.precisions import Numbers
from stages.speed.products import Product

CPU = torch.device("cpu")


def test_a_clock_weighs_products_by_their_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that gives a second to a call and one more for each row of the left factor."""
    calls = []

    def fake(product: Product, precision: str, factors: object) -> list[Callable[[], object]]:
        return [lambda: calls.append(product)]

    def seconds(work: Callable[[], object], device: torch.device) -> float:
        before = len(calls)
        work()
        return sum(1.0 + product.M for product in calls[before:])

    monkeypatch.setattr(peak, "operations", fake)
    monkeypatch.setattr(peak, "timed", seconds)
    work = [Product(M=2, K=1, N=1, count=5), Product(M=4, K=1, N=1, count=0.5)]
    assert ProductClock(work, Numbers(), CPU).measure(0.0) == 5 * 3 + 0.5 * 5


def test_the_fastest_way_is_the_machines_best(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow() -> float:
        return 3.0

    def fast() -> float:
        return 2.0

    monkeypatch.setattr(peak, "operations", lambda *given: [slow, fast])
    monkeypatch.setattr(peak, "_best", lambda way, device: way())
    monkeypatch.setattr(peak, "_warm", lambda way, device: way())
    monkeypatch.setattr(peak, "timed", lambda work, device: 2.0)
    assert ProductClock([Product(M=2, K=1, N=1)], Numbers(), CPU)._timers[0]._call is fast
    monkeypatch.setattr(peak, "SQUARE", {"cpu": 8})
    assert matrix_roof("float32", CPU) == 2 * 8**3 / 2.0


def test_factors_lie_as_the_product_says() -> None:
    for left_turned, right_turned in ((False, True), (True, False)):
        product = Product(M=3, K=4, N=5, left_transposed=left_turned, right_transposed=right_turned)
        left, right = peak._Buffers([product], CPU).factors(product)
        assert left.shape == (1, 3, 4)
        assert right.shape == (1, 4, 5)
        assert left.is_contiguous() is not left_turned
        assert right.is_contiguous() is not right_turned


def test_some_heads_stand_for_all_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "OPERAND_BYTES", 4 * 100 * 8)
    product = Product(M=10, K=2, N=10, batch=32)
    held = peak._held(product)
    assert held.batch == max(8, torch.get_num_threads())
    assert held.flops == product.flops
    assert peak._held(Product(M=10, K=2, N=10, batch=2)).batch == 2


def test_roofs_are_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "SQUARE", {"cpu": 64})
    monkeypatch.setattr(peak, "COPIED", {"cpu": 1 << 12})
    monkeypatch.setattr(peak, "timed", lambda work, device: 0.5)
    assert matrix_roof("float32", CPU) == 2 * 64**3 / 0.5
    assert memory_roof(CPU) == 2 * (1 << 12) / 0.5
