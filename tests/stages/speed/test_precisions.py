"""Each product is done in the numbers that a network does it in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages.errors import DataMismatch
from stages.nn.precision import PRECISIONS, to_precision
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.network import SoundStorm
from stages.speed import precisions
from stages.speed.precisions import (
    Numbers,
    known_precisions,
    numbers_of,
    operations,
    require_possible,
)
from stages.speed.products import Product, attention, linear

CPU = torch.device("cpu")
LEFT, RIGHT = torch.randn(1, 6, 32), torch.randn(1, 16, 32).transpose(1, 2)


def done(product: Product, precision: str, left: Tensor, right: Tensor) -> list[Tensor]:
    """What each way makes."""
    made = []
    for operation in operations(product, precision, lambda asked: (left, right)):
        result = operation()
        assert isinstance(result, Tensor)
        made.append(result)
    return made


def test_products_of_packed_weights() -> None:
    (made,) = done(linear(6, 32, 16), "float32-packed", LEFT, RIGHT)
    torch.testing.assert_close(made, (LEFT @ RIGHT)[0])


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_products_of_floats(precision: str) -> None:
    (made,) = done(linear(6, 32, 16), precision, LEFT, RIGHT)
    assert str(made.dtype) == f"torch.{precision}"
    assert torch.allclose(made.float(), (LEFT @ RIGHT)[0], atol=0.2)

    left, right = torch.randn(2, 6, 4), torch.randn(2, 4, 6)
    (made,) = done(attention(1, 6, 2, 8)[0], precision, left, right)
    assert torch.allclose(made.float(), left @ right, atol=0.1)


def test_products_of_integers() -> None:
    """One gives the sums of products of rounded factors; one gives 8 bits again."""
    whole, short = done(linear(6, 32, 16), "int8", LEFT, RIGHT)
    rounded = [(factor[0] * (127 / factor.abs().max())).round() for factor in (LEFT, RIGHT)]
    assert whole.dtype == torch.int32
    assert torch.equal(whole.double(), (rounded[0] @ rounded[1]).double())
    assert short.dtype == torch.quint8
    # In units of a scale of 1 all that is left is the sign.
    clear = whole.abs() > 2000
    assert clear.any()
    assert torch.equal(short.int_repr()[clear] > 64, whole[clear] > 0)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Number types of what networks multiply, by role."""
    found: dict[str, set[str]] = {}

    def note(role: str, module: Any, name: str) -> None:
        real = getattr(module, name)

        def noted(first: Tensor, *more: Any, **named: Any) -> Any:
            found.setdefault(role, set()).add(str(first.dtype).removeprefix("torch."))
            return real(first, *more, **named)

        monkeypatch.setattr(module, name, noted)

    note("attention", torch.nn.functional, "scaled_dot_product_attention")
    note("attention", torch, "bmm")
    note("map", torch.nn.functional, "linear")
    return found


@pytest.mark.parametrize("has", [True, False])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_networks_multiply_what_is_timed(
    precision: str, has: bool, seen: dict[str, set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: has)
    config = SoundStormConfig(
        levels=2, codebook_size=8, semantic_codebook_size=8, layers=1, heads=2, width=16,
        feed_forward=16,
    )  # fmt: skip
    network = to_precision(SoundStorm(config).eval(), precision, CPU)
    with torch.inference_mode():
        features = network.features(torch.zeros(1, 4, 2).long(), torch.zeros(1, 4).long())
        # Integers and packed weights go by torch's own kernels.
        by_name = precision in ("int8", "float32-packed")
        maps = seen.pop("map", {precision} if by_name else set())
        network.head(0, features)
    numbers = numbers_of("decode", precision)
    if by_name:
        assert not any(isinstance(module, nn.Linear) for module in network.modules())
    assert maps == {precision}
    assert numbers.of(linear(1, 1, 1)) == precision
    assert seen["attention"] == {numbers.of(attention(1, 4, 2, 16)[0])}
    assert seen["map"] == {numbers.of(linear(1, 1, 1, role="head"))} == {"float32"}


def test_autocast_changes_every_product_of_training() -> None:
    numbers = numbers_of("train", "bfloat16")
    for product in (linear(1, 1, 1), linear(1, 1, 1, role="head"), attention(1, 4, 2, 16)[0]):
        assert numbers.of(product) == "bfloat16"
    assert numbers.of(Product(M=1, K=1, N=1)) == "float32"


@pytest.mark.parametrize(
    ("precision", "factor", "result"), [("float32", 4, 4), ("bfloat16", 2, 2), ("int8", 1, 4)]
)
def test_bytes_are_those_of_factors_and_result(precision: str, factor: int, result: int) -> None:
    products = [linear(2, 3, 5, 2), linear(2, 3, 5, role="head")]
    moved = numbers_of("decode", precision).moved_by(products)
    assert moved == 2 * (factor * (6 + 15) + result * 10) + 4 * (6 + 15 + 10)


def test_what_there_is() -> None:
    assert known_precisions("decode") == PRECISIONS
    assert known_precisions("train") == ("float32", "bfloat16")
    assert known_precisions("vocode") == ("float32",)
    assert Numbers().of(linear(1, 1, 1)) == "float32"
    with pytest.raises(DataMismatch, match="int8 is for a CPU"):
        require_possible("decode", "int8", torch.device("cuda"))
    require_possible("train", "bfloat16", torch.device("cuda"))


def test_nothing_is_rounded_past_the_integers() -> None:
    rounded: Callable[[Tensor], Tensor] = precisions._rounded
    assert rounded(torch.tensor([-3.0, 0.0, 1.5, 3.0])).tolist() == [-127, 0, 64, 127]
