"""Choosing a token from logits: temperature, then top-k, then top-p."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stages.errors import DataMismatch
from stages.soundstorm.randomness import COLDEST, choose


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to choose."""

    temperature: float = 1.0
    """Divides the logits; 0, or less than `COLDEST`, takes the likeliest token."""

    top_k: int | None = None
    """Choose among so many of the likeliest; all if None."""

    top_p: float | None = None
    """Choose among the likeliest that together have at least this probability; all if None."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise DataMismatch(f"a temperature of {self.temperature} is not 0 or more")
        if self.top_k is not None and self.top_k < 1:
            raise DataMismatch(f"a top-k of {self.top_k} leaves nothing to choose: use 1 or more")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise DataMismatch(f"a top-p of {self.top_p} is no probability above 0")

    def to_json(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}


def sample(logits: Tensor, quantiles: Tensor, sampling: Sampling) -> Tensor:
    """Choose a token for each row, from that row's numbers alone.

    Args:
        logits: `[B, C]` float32.
        quantiles: `[B]` in [0, 1): where in its distribution each row chooses.
        sampling: how.

    Returns:
        `[B]` int64.
    """
    if sampling.temperature < COLDEST:
        return logits.argmax(dim=-1)
    weights = (logits / sampling.temperature).softmax(dim=-1)
    if sampling.top_k is not None and sampling.top_k < weights.shape[-1]:
        kept, entries = weights.topk(sampling.top_k, dim=-1)
        weights = torch.zeros_like(weights).scatter(-1, entries, kept)
    if sampling.top_p is not None:
        ordered, entries = weights.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(dim=-1) - ordered  # the likeliest has nothing before it
        ordered = ordered.masked_fill(before >= sampling.top_p * ordered.sum(-1, keepdim=True), 0.0)
        weights = torch.zeros_like(weights).scatter(-1, entries, ordered)
    return choose(weights, quantiles)
