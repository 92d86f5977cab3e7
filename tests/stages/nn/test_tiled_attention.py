"""Attention in tiles of 16 bits: torch's own up to rounding, whatever the tiles and the padding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.nn import tiled_attention
from stages.nn.conformer import Attention, Conformer, ConformerConfig, padding_mask
from stages.nn.precision import PRECISIONS, to_precision
from stages.nn.tiled_attention import attend_in_tiles

CPU = torch.device("cpu")


def make_heads(rows: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, rows, 2, frames, 16, generator=generator)
    return q, k, v


def make_conformer() -> Conformer:
    torch.manual_seed(0)
    config = ConformerConfig(layers=2, heads=2, width=32, feed_forward=64, dropout=0.0)
    return Conformer(config).eval().requires_grad_(False)


@pytest.mark.parametrize("frames", [1, 15, 16, 17, 100])
def test_it_is_attention_to_the_rounding_of_16_bits(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiled_attention, "QUERIES", 16)
    q, k, v = make_heads(2, frames)
    exact, found = F.scaled_dot_product_attention(q, k, v), attend_in_tiles(q, k, v)
    assert found.dtype == torch.float32
    assert found.shape == exact.shape
    assert 1e-4 < float((found - exact).norm() / exact.norm()) < 1e-2


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = make_heads(1, 50)
    whole = attend_in_tiles(q, k, v)
    monkeypatch.setattr(tiled_attention, "QUERIES", 7)
    torch.testing.assert_close(attend_in_tiles(q, k, v), whole, atol=2e-2, rtol=0)


def test_padding_is_not_attended_to() -> None:
    q, k, v = make_heads(2, 20)
    mask = padding_mask(torch.tensor([20, 12]), 20)
    assert mask is not None
    k[1, :, 12:], v[1, :, 12:] = 30.0, 1e4
    found = attend_in_tiles(q, k, v, mask[:, None, None, :])
    alone = attend_in_tiles(*(x[1:, :, :12] for x in (q, k, v)))
    torch.testing.assert_close(found[1:, :, :12], alone, atol=2e-2, rtol=0)


@pytest.mark.parametrize("has", [True, False])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_is_taken_where_the_cpu_has_such_products(
    precision: str, has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: has)
    network = to_precision(make_conformer(), precision, CPU)
    layers = [module for module in network.modules() if isinstance(module, Attention)]
    assert len(layers) == 2
    taken = has and precision in ("int8", "bfloat16")
    wanted = attend_in_tiles if taken else F.scaled_dot_product_attention
    assert all(layer.attend is wanted for layer in layers)


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
def test_a_pass_is_near_that_of_float32_attention(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(1, 300, 32, generator=torch.Generator().manual_seed(1))
    found = {}
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    for has in (True, False):
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda has=has: has)
        with torch.inference_mode():
            found[has] = to_precision(make_conformer(), precision, CPU)(x)
    assert 0 < float((found[True] - found[False]).norm() / found[False].norm()) < 2e-2
