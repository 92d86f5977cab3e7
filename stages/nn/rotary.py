"""Rotary positions (Su et al., 2021): attention that sees only how far apart two frames are."""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_table(frames: int, head_width: int, *, device: torch.device) -> Tensor:
    """Cosines and sines of every frame's rotations, made anew for the length at hand.

    Nothing is cached, so no utterance is too long; the table costs less than one layer norm.

    Args:
        frames: T.
        head_width: width of one attention head, even.
        device: where the table is needed.

    Returns:
        `[2, T, head_width / 2]` float32: cosines, then sines. Pair k of a head turns by
        `10000^(-2k / head_width)` radians a frame.
    """
    return rotary_at(torch.arange(frames, device=device), head_width)


def rotary_at(positions: Tensor, head_width: int) -> Tensor:
    """Like `rotary_table`, of frames at any positions: `[...]` to `[2, ..., head_width / 2]`."""
    pairs = torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32)
    speeds = 10_000.0 ** (-pairs / head_width)
    angles = positions.float()[..., None] * speeds
    return torch.stack((angles.cos(), angles.sin()))


def rotate(heads: Tensor, table: Tensor) -> Tensor:
    """Turn each neighbouring pair of channels by its frame's angle.

    Args:
        heads: queries or keys `[..., T, head_width]`.
        table: what `rotary_table` gave for T.

    Returns:
        The same shape and type; the float32 table makes the arithmetic float32 at least.
    """
    cosine, sine = table.unbind()
    if _for_use_alone(heads):
        # The same products and sums, rounded as below and laid out alike, but over neighbours in
        # memory: two to three times as fast. A factor of i exchanges a pair exactly, with the odd
        # channel's sign turned; a factor of cosine and sine would be quicker, and round otherwise.
        pairs = heads.float().contiguous().view(*heads.shape[:-1], -1, 2)
        exchanged = torch.view_as_complex(pairs) * 1j
        across = torch.view_as_real(exchanged).flatten(-2).mul_(sine.repeat_interleave(2, dim=-1))
        along = pairs.flatten(-2) * cosine.repeat_interleave(2, dim=-1)
        return along.add_(across).type_as(heads)
    even, odd = heads[..., 0::2], heads[..., 1::2]
    turned = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1)
    return turned.flatten(-2).type_as(heads)


def _for_use_alone(heads: Tensor) -> bool:
    """Whether these are on a CPU, of no gradient and no graph, and may be seen in pairs."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    if heads.device.type != "cpu" or heads.dtype == torch.float64:
        return False
    return heads.storage_offset() % 2 == 0
