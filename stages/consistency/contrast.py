"""Telling recordings apart: the contrastive loss of CLIP (Radford et al. 2021), and retrieval."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ContrastSums:
    """Sums over the recordings that were contrasted."""

    loss: Tensor
    """Scalar float32: cross-entropy in nats, the mean of both directions, with gradients."""

    recordings: Tensor
    """Scalar int64."""

    correct: Tensor
    """Scalar int64: recordings whose first crop is nearest to their own second one."""


def contrast(first: Tensor, second: Tensor, scale: Tensor) -> ContrastSums:
    """Each crop names its partner among the other side's, both ways.

    Args:
        first: `[B, D]` unit vectors, one crop of each recording.
        second: `[B, D]`, another crop of each, in the same order.
        scale: scalar, the inverse temperature.
    """
    with torch.autocast(first.device.type, enabled=False):  # the temperature magnifies rounding
        similarities = first @ second.T  # [B, B]
    logits = scale * similarities
    own = torch.arange(len(first), device=first.device)
    loss = F.cross_entropy(logits, own, reduction="sum")
    loss = loss + F.cross_entropy(logits.T, own, reduction="sum")
    return ContrastSums(
        loss=loss / 2,
        recordings=torch.tensor(len(first), device=first.device),
        correct=finds_own(similarities).sum(),
    )


def finds_own(similarities: Tensor) -> Tensor:
    """Which rows are nearest to their own column: a tie with another one is not.

    Args:
        similarities: `[N, N]`, row i and column i being of the same recording.

    Returns:
        `[N]` bool.
    """
    itself = torch.eye(len(similarities), dtype=torch.bool, device=similarities.device)
    others = similarities.masked_fill(itself, -torch.inf).amax(dim=1)
    return similarities.diagonal() > others
