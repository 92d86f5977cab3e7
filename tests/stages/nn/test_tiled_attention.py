"""Attention in tiles of 16 bits: torch's own up to rounding, whatever the tiles and the padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stages.nn import tiled_attention
from stages.nn.conformer import Attention, Conformer, ConformerConfig, attend, padding_mask
from stages.nn.precision import PRECISIONS, to_precision
from stages.nn.rotary import rotary_table
from stages.nn.tiled_attention import attend_in_tiles, complex_table

CPU = torch.device("cpu")


def make_heads(rows: int, frames: int) -> Tensor:
    """Queries, keys and values of two heads, `[B, T, 3, 2, 16]`."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, frames, 3, 2, 16, generator=generator)


def in_tiles(qkv: Tensor, mask: Tensor | None = None) -> Tensor:
    return attend_in_tiles(qkv, complex_table(qkv.shape[1], 16, device=CPU), mask)


def make_conformer() -> Conformer:
    torch.manual_seed(0)
    config = ConformerConfig(layers=2, heads=2, width=32, feed_forward=64, dropout=0.0)
    return Conformer(config).eval().requires_grad_(False)


@pytest.mark.parametrize("frames", [1, 15, 16, 17, 100])
def test_it_is_attention_to_the_rounding_of_16_bits(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiled_attention, "QUERIES", 16)
    qkv = make_heads(2, frames)
    exact, found = attend(qkv, rotary_table(frames, 16, device=CPU), None), in_tiles(qkv)
    assert found.dtype == torch.float32
    assert found.shape == exact.shape
    assert 1e-4 < float((found - exact).norm() / exact.norm()) < 1e-2


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    qkv = make_heads(1, 50)
    whole = in_tiles(qkv)
    monkeypatch.setattr(tiled_attention, "QUERIES", 7)
    torch.testing.assert_close(in_tiles(qkv), whole, atol=2e-2, rtol=0)


def test_padding_is_not_attended_to() -> None:
    qkv = make_heads(2, 20)
    mask = padding_mask(torch.tensor([20, 12]), 20)
    assert mask is not None
    qkv[1, 12:, 1], qkv[1, 12:, 2] = 30.0, 1e4
    found, alone = in_tiles(qkv, mask), in_tiles(qkv[1:, :12])
    torch.testing.assert_close(found[1:, :12], alone, atol=2e-2, rtol=0)


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
    wanted = attend_in_tiles if taken else attend
    assert all(layer.attend is wanted for layer in layers)
    assert network.table is (complex_table if taken else rotary_table)


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
