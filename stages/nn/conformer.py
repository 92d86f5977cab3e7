"""The Conformer (Gulati et al., 2020) under SoundStorm and BEST-RQ, in plain torch.

Two departures from the original, both so that a row's output depends on that row alone: rotary
positions instead of relative ones, whose table follows a batch's longest row, and LayerNorm
instead of BatchNorm in the convolution module, since BatchNorm sees padding and neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import DataMismatch
from stages.nn.rotary import rotary_table, rotate


@dataclass(frozen=True, kw_only=True)
class ConformerConfig:
    """Shape of a Conformer; the paper's 350M model is 12, 16, 1024, 4096, 5 (section 4.1)."""

    layers: int
    """Number of blocks."""

    heads: int
    """Attention heads of each block."""

    width: int
    """D, channels of a frame."""

    feed_forward: int
    """Inner width of both feed-forward modules of a block."""

    kernel: int = 5
    """Frames that the depthwise convolution sees, odd."""

    dropout: float = 0.1
    """Probability of dropping a channel of a module's output, in training."""

    def __post_init__(self) -> None:
        if min(self.layers, self.heads, self.width, self.feed_forward) < 1:
            raise DataMismatch("a Conformer's layers, heads and widths must all be at least 1")
        if self.width % (2 * self.heads):
            raise DataMismatch(
                f"a width of {self.width} does not split into {self.heads} heads of even width: "
                f"use a multiple of {2 * self.heads}"
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise DataMismatch(f"a kernel of {self.kernel} frames has no middle: use an odd one")
        if not 0.0 <= self.dropout < 1.0:
            raise DataMismatch(f"a dropout of {self.dropout} is not in [0, 1)")

    @staticmethod
    def of(config: Any) -> ConformerConfig:
        """From a configuration that has these fields among its own."""
        shape = {field.name: getattr(config, field.name) for field in fields(ConformerConfig)}
        return ConformerConfig(**shape)


def padding_mask(lengths: Tensor, frames: int) -> Tensor | None:
    """Which frames are real.

    Args:
        lengths: `[B]` int64; on an accelerator this waits for it, so pass CPU lengths if you can.
        frames: T, the padded length.

    Returns:
        `[B, T]` bool, or None if every row is full: attention is faster without a mask.
    """
    if bool((lengths == frames).all()):
        return None
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


# Where no gradient will ask for what was there, in place: the same bits, less memory to go through.


def _silu(x: Tensor) -> Tensor:
    return F.silu(x, inplace=not torch.is_grad_enabled())


def _add(x: Tensor, y: Tensor, alpha: float = 1.0) -> Tensor:
    return torch.add(x, y, alpha=alpha) if torch.is_grad_enabled() else x.add_(y, alpha=alpha)


class FeedForward(nn.Module):
    """One of a block's two half-step feed-forward modules (before norm and residual)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, inner)
        self.outer = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, D]` to `[B, T, D]`."""
        hidden: Tensor = self.outer(_silu(self.inner(x)))
        return hidden


def attend(qkv: Tensor, table: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of several heads, within each row, with rotary positions.

    Args:
        qkv: `[B, T, 3, H, D / H]`, queries, keys and values.
        table: `[2, T, D / H / 2]` from `rotary_table`.
        mask: `[B, T]` bool, true at real frames; None if all are.

    Returns:
        `[B, T, D]`.
    """
    by_head = qkv.permute(2, 0, 3, 1, 4)  # [3, B, H, T, D / H]
    q, k = rotate(by_head[:2], table).unbind()
    keys_mask = None if mask is None else mask[:, None, None, :]
    attended = F.scaled_dot_product_attention(q, k, by_head[2], attn_mask=keys_mask)
    return attended.transpose(1, 2).flatten(-2)


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        # Of a network in another precision it may be another (`stages.nn.tiled_attention`).
        self.attend: Callable[[Tensor, Tensor, Tensor | None], Tensor] = attend

    def forward(self, x: Tensor, table: Tensor, mask: Tensor | None) -> Tensor:
        """`[B, T, D]` to `[B, T, D]`; see `attend` for `table` and `mask`."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        out: Tensor = self.out(self.attend(qkv, table, mask))
        return out


class Convolution(nn.Module):
    """Gated pointwise, depthwise, LayerNorm, SiLU, pointwise."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, 2 * width, bias=False)
        self.depthwise = nn.Conv2d(
            width, width, (1, kernel), padding=(0, kernel // 2), groups=width, bias=False
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`[B, T, D]` to `[B, T, D]`; padding reaches no neighbour, for it is zeroed first."""
        x = F.glu(self.gate(x), dim=-1)
        if mask is not None:
            x = x.masked_fill(~mask[:, :, None], 0.0)
        # As a picture of height 1 with channels last, [B, D, 1, T], the same convolution is thirty
        # times faster on a CPU than Conv1d, whose layout needs two copies and has no fast kernel.
        x = self.depthwise(x.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        out: Tensor = self.out(_silu(self.norm(x)))
        return out


class ConformerBlock(nn.Module):
    """Half feed-forward, attention, convolution, half feed-forward, LayerNorm; each pre-normed."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        width = config.width
        self.feed_forward1_norm = nn.LayerNorm(width)
        self.feed_forward1 = FeedForward(width, config.feed_forward)
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, config.heads)
        self.convolution_norm = nn.LayerNorm(width)
        self.convolution = Convolution(width, config.kernel)
        self.feed_forward2_norm = nn.LayerNorm(width)
        self.feed_forward2 = FeedForward(width, config.feed_forward)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, table: Tensor, mask: Tensor | None) -> Tensor:
        """`[B, T, D]` to `[B, T, D]`; see `attend` for `table` and `mask`."""
        half1 = self.dropout(self.feed_forward1(self.feed_forward1_norm(x)))
        x = torch.add(x, half1, alpha=0.5)
        x = _add(x, self.dropout(self.attention(self.attention_norm(x), table, mask)))
        x = _add(x, self.dropout(self.convolution(self.convolution_norm(x), mask)))
        half2 = self.dropout(self.feed_forward2(self.feed_forward2_norm(x)))
        x = _add(x, half2, alpha=0.5)
        out: Tensor = self.norm(x)
        return out


class Conformer(nn.Module):
    """A stack of Conformer blocks over frames."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.layers))
        self.table: Callable[..., Tensor] = rotary_table  # for `Attention.attend`, likewise
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform matrices and zero biases, as fairseq2 and the original have them."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, *, layers: int | None = None
    ) -> Tensor:
        """Run the frames of each row through the blocks.

        Args:
            x: `[B, T, D]`.
            mask: `[B, T]` bool, true at real frames (see `padding_mask`); None if all are.
            layers: stop after this many blocks and return what the last of them gives.

        Returns:
            `[B, T, D]`; padding frames are void. A real frame does not depend on other rows or
            on how much padding there is, up to the rounding of the matrix library.
        """
        table = self.table(x.shape[1], self.config.width // self.config.heads, device=x.device)
        for block in self.blocks[:layers]:
            x = block(x, table, mask)
        return x
