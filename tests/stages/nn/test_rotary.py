"""Rotary positions: lengths kept, only distances seen."""

from __future__ import annotations

import torch

from stages.nn.rotary import rotary_table, rotate


def test_first_frame_is_left_alone() -> None:
    heads = torch.randn(2, 3, 5, 8)
    turned = rotate(heads, rotary_table(5, 8, device=heads.device))
    assert torch.equal(turned[:, :, 0], heads[:, :, 0])
    assert not torch.allclose(turned[:, :, 1], heads[:, :, 1])


def test_norms_are_kept() -> None:
    heads = torch.randn(1, 50, 16)
    turned = rotate(heads, rotary_table(50, 16, device=heads.device))
    torch.testing.assert_close(turned.norm(dim=-1), heads.norm(dim=-1))


def test_products_depend_only_on_distance() -> None:
    query, key = torch.randn(2, 16, dtype=torch.float64)
    table = rotary_table(40, 16, device=query.device).double()
    queries = rotate(query.expand(40, -1), table)
    keys = rotate(key.expand(40, -1), table)
    products = queries @ keys.T  # [T, T]
    for distance in (-7, 0, 3):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=0)
    assert products.diagonal(3)[0] != products.diagonal(-7)[0]


def test_half_precision_comes_back_as_it_went_in() -> None:
    heads = torch.randn(4, 8, dtype=torch.bfloat16)
    assert rotate(heads, rotary_table(4, 8, device=heads.device)).dtype == torch.bfloat16
