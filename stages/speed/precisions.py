"""The precisions that speed is measured in, and plain products of torch in each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stages.nn.packed import packed, packed_product
from stages.nn.precision import PACKED, attention_precision, check_precision
from stages.nn.precision import PRECISIONS as DECODING
from stages.speed.products import Product, Role
from stages.training.settings import PRECISIONS as TRAINING

Operation = Callable[[], object]
"""Does one product."""

Factors = Callable[[Product], tuple[Tensor, Tensor]]
"""Lays out the factors of a product in memory, `[batch, M, K]` and `[batch, K, N]` float32."""

FLOAT32, INT8 = "float32", "int8"

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}

INT8_STEPS = 127
"""Of a factor, on each side of zero."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Which numbers a work's products are made of."""

    roles: Mapping[Role, str] = field(default_factory=dict)
    """Precisions by role; all other products are of float32."""

    def of(self, product: Product) -> str:
        """The precision of one product."""
        return self.roles.get(product.role, FLOAT32)

    def moved_by(self, products: Iterable[Product]) -> float:
        """Bytes of products, factors and results each moved once."""
        return sum(product.moved(*_sizes(self.of(product))) for product in products)


FLOATS = Numbers()


def numbers_of(task: str, precision: str) -> Numbers:
    """What a precision makes of a task's products.

    A network that decodes keeps float32 for its heads (`stages.nn.precision`), and integers and
    packed weights are for linear maps alone; autocast, in training, changes all of them.
    """
    if task == "train":
        return Numbers(roles=dict.fromkeys(("map", "attention", "head"), precision))
    if task != "decode":
        return FLOATS
    return Numbers(roles={"map": precision, "attention": attention_precision(precision)})


def known_precisions(task: str) -> tuple[str, ...]:
    """In which a task can be measured."""
    return {"decode": DECODING, "train": TRAINING}.get(task, (FLOAT32,))


def require_possible(task: str, precision: str, device: torch.device) -> None:
    """Refuse a precision that a device does not have.

    Raises:
        DataMismatch: saying what it has.
    """
    if task == "decode":
        check_precision(precision, device)


def operations(product: Product, precision: str, factors: Factors) -> list[Operation]:
    """Ways to do one product, of which the fastest is what the machine can do.

    Args:
        product: its shapes.
        precision: of its numbers.
        factors: gives them.
    """
    if precision == INT8:
        return _int8_operations(*factors(product))
    if precision == PACKED:
        left, right = (factor[0] for factor in factors(product))
        weight = packed(right.T)
        return [lambda: packed_product(left, weight)]
    dtype = HALVES.get(precision, torch.float32)
    left, right = (factor.to(dtype) for factor in factors(product))
    out = torch.empty(product.batch, product.M, product.N, dtype=dtype, device=left.device)
    if product.batch > 1:
        return [lambda: torch.bmm(left, right, out=out)]
    one, other, result = left[0], right[0], out[0]
    return [lambda: torch.mm(one, other, out=result)]


def _int8_operations(left: Tensor, right: Tensor) -> list[Operation]:
    """`[1, M, K]` times `[1, K, N]`: to integers of 32 bits, or to 8 bits with a scale again.

    Which is faster depends on the CPU. A network's own product also rounds its input and scales
    what comes out.
    """
    one, other = (_rounded(factor[0]) for factor in (left, right))
    out = torch.empty(one.shape[0], other.shape[1], dtype=torch.int32)
    weights = torch._make_per_tensor_quantized_tensor(other.T.contiguous(), 1.0, 0)
    packed = torch.ops.quantized.linear_prepack(weights, None)
    # Seven bits, so that sums of two products fit 16 on a CPU without VNNI.
    positive = (one.int() + INT8_STEPS + 1).div(2, rounding_mode="floor").to(torch.uint8)
    given = torch._make_per_tensor_quantized_tensor(positive, 1.0, 64)
    return [
        lambda: torch._int_mm(one, other, out=out),
        lambda: torch.ops.quantized.linear(given, packed, 1.0, 64),
    ]


def _rounded(factor: Tensor) -> Tensor:
    """Float32 to int8 in `[-127, 127]`, in memory as it lies."""
    scale = INT8_STEPS / float(factor.abs().max())
    return (factor * scale).round().to(torch.int8)


def _sizes(precision: str) -> tuple[int, int]:
    """Bytes of a number of a factor, and of the result."""
    if precision == INT8:
        return 1, torch.int32.itemsize
    size = HALVES.get(precision, torch.float32).itemsize
    return size, size
