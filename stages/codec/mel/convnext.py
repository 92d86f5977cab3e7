"""ConvNeXt blocks over frames (Liu et al., 2022; in one dimension as in Vocos, Siuzdak, 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """`[B, T, 1]` float32: 1 at the real frames of rows of `lengths`, 0 at padding."""
    return (torch.arange(frames, device=lengths.device) < lengths[:, None])[..., None].float()


class MaskedConv(nn.Module):
    """A convolution over time `[B, T, D]` for which a row's padding is silence of its own."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, T, inputs]` and mask `[B, T, 1]` to `[B, T, outputs]`."""
        y: Tensor = self.conv((x * mask).transpose(1, 2))
        return y.transpose(1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a pointwise network of two layers, residual."""

    def __init__(self, width: int, hidden: int, kernel: int, *, scale: float) -> None:
        super().__init__()
        self.depthwise = MaskedConv(width, width, kernel, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.project = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, T, D]` and mask `[B, T, 1]` to `[B, T, D]`."""
        y = self.norm(self.depthwise(x, mask))
        change: Tensor = self.scale * self.project(F.gelu(self.expand(y)))
        return x + change


class ConvNeXt(nn.Module):
    """A convolution to `width`, blocks, a norm and a linear map."""

    def __init__(
        self, inputs: int, outputs: int, *, width: int, hidden: int, blocks: int, kernel: int
    ) -> None:
        super().__init__()
        self.first = MaskedConv(inputs, width, kernel)
        self.first_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, hidden, kernel, scale=1 / blocks) for _ in range(blocks)
        )
        self.last_norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, T, inputs]` and mask `[B, T, 1]` to `[B, T, outputs]`."""
        x = self.first_norm(self.first(x, mask))
        for block in self.blocks:
            x = block(x, mask)
        y: Tensor = self.last(self.last_norm(x))
        return y
