"""Which tokens are hidden in training (paper, section 3.2).

Every example of a batch draws a prompt delimiter, a level and a masking ratio of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TrainingMask:
    """What is hidden in a batch, on the CPU, where it was drawn."""

    lengths: Tensor
    """`[B]` int64: real frames of each example."""

    delimiter: Tensor
    """`[B]` int64: t, the first frame that is not prompt; `0 <= t < length`."""

    level: Tensor
    """`[B]` int64: the 0-based level whose masked tokens are to be predicted."""

    ratio: Tensor
    """`[B]` float64: p, the probability that a token of that level was masked."""

    masked: Tensor
    """`[B, T]` bool: frames whose token at `level` is masked, and so counts in the loss.

    An example may have none (p is small for some). It then adds nothing to loss or count."""

    def apply(self, acoustic: Tensor, mask_token: int) -> Tensor:
        """Hide the tokens.

        Args:
            acoustic: `[B, T, Q]` int64; any values at padding.
            mask_token: what to put in place of a hidden token.

        Returns:
            `[B, T, Q]`: coarser levels as they were; `masked` tokens hidden at the level; all of
            the finer levels from the delimiter on; and all padding, which is no token.
        """
        _, T, Q = acoustic.shape
        frame = torch.arange(T)[None, :]  # [1, T]
        level = torch.arange(Q)[None, None, :]  # [1, 1, Q]
        own_level = self.level[:, None, None]  # [B, 1, 1]
        generated = (frame >= self.delimiter[:, None])[:, :, None]  # [B, T, 1]
        padding = (frame >= self.lengths[:, None])[:, :, None]
        hidden = (
            (self.masked[:, :, None] & (level == own_level))
            | (generated & (level > own_level))
            | padding
        )
        return acoustic.masked_fill(hidden.to(acoustic.device, non_blocking=True), mask_token)


@dataclass(frozen=True, kw_only=True)
class Practice:
    """Which masks are drawn more often than the paper draws them."""

    level_weights: Tensor | None = None
    """`[Q]`, how often each level is drawn; all alike (the paper's) if None."""

    whole: Tensor | None = None
    """`[Q]`, the probability that an example of a level has the ratio 1 instead of cos u: all is
    masked from the delimiter on, as decoding meets a level of one pass. None, the paper's, is 0."""

    drop_semantic: float = 0.0
    """The probability that an example has no semantic tokens; the paper's is 0."""


PAPER = Practice()


def draw_mask(
    lengths: Tensor,
    levels: int,
    generator: torch.Generator,
    practice: Practice = PAPER,
) -> TrainingMask:
    """Draw the mask of a batch.

    The paper counts frames from 1 and masks `t' > t` with t from 0 to T - 1; counted from 0, as
    here, that is every frame from t on, so at least the last frame is never prompt.

    Args:
        lengths: `[B]` int64 on the CPU, each at least 1; T is the longest.
        levels: Q.
        generator: a CPU generator; the same state gives the same mask.
        practice: what to draw more often than the paper does.
    """
    B, T = len(lengths), int(lengths.max())

    # float64, since float32 can round (1 - 2^-24) * 1500 up to 1500, a delimiter past the end
    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=generator)

    delimiter = (uniform(B) * lengths).long()
    if practice.level_weights is None:
        level = torch.randint(levels, (B,), generator=generator)
    else:
        level = torch.multinomial(practice.level_weights, B, replacement=True, generator=generator)
    ratio = torch.cos(uniform(B) * (math.pi / 2))
    if practice.whole is not None:
        ratio = torch.where(uniform(B) < practice.whole[level], 1.0, ratio)
    frame = torch.arange(T)[None, :]
    generated = (frame >= delimiter[:, None]) & (frame < lengths[:, None])
    masked = generated & (uniform(B, T) < ratio[:, None])
    return TrainingMask(
        lengths=lengths, delimiter=delimiter, level=level, ratio=ratio, masked=masked
    )
