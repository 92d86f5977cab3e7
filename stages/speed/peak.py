"""What the machine can do: plain matrix products of given shapes, and moving memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from stages.speed.clock import timed, wait
from stages.speed.precisions import Numbers, Operation, operations
from stages.speed.products import Product, merged

CALL_SECONDS = 1e-3
"""A product is called so long at a time, so that reading the clock weighs nothing."""

MOST_CALLS = 64
"""At a time."""

OPERAND_BYTES = 1 << 28
"""Most that one factor of a batch of products may need; of a larger batch, some stand for all."""

SQUARE = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the product that is the machine's roof: large enough to be at its best."""

COPIED = {"cpu": 1 << 28, "cuda": 1 << 30}
"""Bytes that are copied to see how fast memory is: more than caches hold."""

ROOF_SECONDS = 1.0
"""For each roof; the best of what is found in it counts."""


class ProductClock:
    """Times the products of a work, each as often as the work has it.

    A product's factors and the place of its result lie in memory already, and are used again in
    the next call: it is what the machine does at its best on such shapes, with caches as warm as
    they can be.
    """

    def __init__(self, products: Sequence[Product], numbers: Numbers, device: torch.device) -> None:
        """Lay out the factors and call each product a few times.

        Args:
            products: of the work.
            numbers: that they are made of.
            device: where.
        """
        self._device = device
        held = [_held(product) for product in merged(products)]
        buffers = _Buffers(held, device)
        self._timers = [
            _Timer(product, operations(product, numbers.of(product), buffers.factors), device)
            for product in held
        ]

    def measure(self, at_least: float) -> float:
        """Seconds of all the products of the work, from sweeps over their shapes.

        Args:
            at_least: seconds that the sweeps are to take; there is one in any case.
        """
        start = time.perf_counter()
        sweeps = [self._sweep()]
        while time.perf_counter() - start < at_least:
            sweeps.append(self._sweep())
        return sum(sweeps) / len(sweeps)

    def _sweep(self) -> float:
        return sum(timer.measure() for timer in self._timers)


class _Timer:
    """One shape."""

    def __init__(self, product: Product, ways: Sequence[Operation], device: torch.device) -> None:
        self._count, self._device = product.count, device
        seconds = [_warm(way, device) for way in ways]
        first = min(seconds)
        self._call = ways[seconds.index(first)]
        self._calls = max(1, min(MOST_CALLS, int(CALL_SECONDS / max(first, 1e-7))))

    def measure(self) -> float:
        """Seconds of all `count`."""

        def several() -> None:
            for _ in range(self._calls):
                self._call()

        return timed(several, self._device) / self._calls * self._count


def _warm(call: Operation, device: torch.device) -> float:
    """Seconds of a call that is not the first."""
    call()
    return timed(call, device)


def _held(product: Product) -> Product:
    """The same work in smaller batches, where a whole batch's factors would fill the memory."""
    numbers = max(product.M * product.K, product.K * product.N, product.M * product.N)
    most = max(torch.get_num_threads(), OPERAND_BYTES // (4 * numbers))
    if product.batch <= most:
        return product
    return replace(product, batch=most, count=product.count * product.batch / most)


class _Buffers:
    """Memory that all products share: each is timed alone."""

    def __init__(self, products: Sequence[Product], device: torch.device) -> None:
        sizes = {
            "left": max(p.batch * p.M * p.K for p in products),
            "right": max(p.batch * p.K * p.N for p in products),
        }
        generator = torch.Generator().manual_seed(0)
        self._pool = {}
        for name, size in sizes.items():
            some = torch.randn(min(size, 1 << 20), generator=generator)
            self._pool[name] = some.repeat(-(-size // len(some)))[:size].to(device)

    def factors(self, product: Product) -> tuple[Tensor, Tensor]:
        """`[batch, M, K]` and `[batch, K, N]` float32, in memory as the product says."""
        left = self._view("left", product.batch, product.M, product.K, product.left_transposed)
        right = self._view("right", product.batch, product.K, product.N, product.right_transposed)
        return left, right

    def _view(self, name: str, batch: int, rows: int, columns: int, transposed: bool) -> Tensor:
        flat = self._pool[name][: batch * rows * columns]
        if transposed:
            return flat.view(batch, columns, rows).transpose(1, 2)
        return flat.view(batch, rows, columns)


def matrix_roof(precision: str, device: torch.device) -> float:
    """FLOP/s of a large square product, the best of several."""
    size = SQUARE.get(device.type, SQUARE["cpu"])
    product = Product(M=size, K=size, N=size, right_transposed=True)
    ways = operations(product, precision, _Buffers([product], device).factors)
    return product.flops / min(_best(way, device) for way in ways)


def memory_roof(device: torch.device) -> float:
    """Bytes a second of a large copy, what is read and what is written counted; the best of
    several."""
    numbers = COPIED.get(device.type, COPIED["cpu"]) // 4
    source = torch.ones(numbers, device=device)
    target = torch.zeros_like(source)
    return 2 * 4 * numbers / _best(lambda: target.copy_(source), device)


def _best(call: Callable[[], object], device: torch.device) -> float:
    call()
    wait(device)
    found: list[float] = []
    while sum(found) < ROOF_SECONDS or len(found) < 2:
        found.append(timed(call, device))
    return min(found)
