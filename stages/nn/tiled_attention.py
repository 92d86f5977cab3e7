"""Attention by products of bfloat16, for a CPU that has them.

torch's own fused attention is made of products too small for these instructions: it is no faster
with 16 bits than with 32. Here two large products stand around a softmax, for some queries at a
time, so that their weights stay in the cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stages.nn.conformer import Attention, Conformer, attend
from stages.nn.rotary import rotary_table

QUERIES = 512
"""Of a tile, at most. From 256 to 768 are as fast to within a tenth; small ones are slower."""


def use_tiles(conformer: Conformer) -> None:
    """Have a Conformer attend in tiles."""
    conformer.table = complex_table
    for module in conformer.modules():
        if isinstance(module, Attention):
            module.attend = attend_in_tiles


def complex_table(frames: int, head_width: int, *, device: torch.device) -> Tensor:
    """As `rotary_table`, for `attend_in_tiles`.

    Returns:
        `[T, 2, 1, head_width / 2]` complex64: what pairs of queries and of keys are turned by,
        queries shrunk by the root of their width, too.
    """
    table = rotary_table(frames, head_width, device=device)
    if torch.compiler.is_compiling():
        return table
    turns = torch.complex(*table)
    return torch.stack((turns * head_width**-0.5, turns), dim=1)[:, :, None]


def attend_in_tiles(qkv: Tensor, table: Tensor, mask: Tensor | None) -> Tensor:
    """As `stages.nn.conformer.attend`, with queries, keys, values, scores and weights of 16 bits.

    Args:
        qkv: `[B, T, 3, H, D / H]` of any float.
        table: of `complex_table`.
        mask: `[B, T]` bool; None if all frames are real.

    Returns:
        `[B, T, D]` of the type of `qkv`.
    """
    if torch.compiler.is_compiling():  # which would unroll the tiles of every length
        return attend(qkv, table, mask)
    rows, frames, _, heads, width = qkv.shape
    pairs = qkv[:, :, :2].float().view(rows, frames, 2, heads, width // 2, 2)
    turned = torch.view_as_real(torch.view_as_complex(pairs) * table).flatten(-2)
    queries, keys = _by_head(turned.permute(2, 0, 3, 1, 4)).chunk(2)  # [B H, T, D / H] each
    keys, values = keys.transpose(1, 2), _by_head(qkv[:, :, 2].transpose(1, 2))
    attended = qkv.new_empty(rows, frames, heads, width)
    longest = -(-frames // -(-frames // QUERIES))  # of as few tiles as can be, all alike
    for start in range(0, frames, longest):
        tile = slice(start, start + longest)
        scores = torch.bmm(queries[:, tile], keys)  # [B H, tile, T]
        if mask is not None:
            scores.view(rows, heads, -1, frames).masked_fill_(~mask[:, None, None, :], -torch.inf)
        weighted = torch.bmm(scores.softmax(dim=-1), values)
        attended[:, tile] = weighted.view(rows, heads, -1, width).transpose(1, 2)
    return attended.flatten(-2)


def _by_head(values: Tensor) -> Tensor:
    """`[..., T, D / H]` to bfloat16 `[-1, T, D / H]`, next to each other in memory."""
    near = values.to(torch.bfloat16, memory_format=torch.contiguous_format)
    return near.flatten(0, -3)
