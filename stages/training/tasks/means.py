"""Means that add up over batches."""

from __future__ import annotations

import torch
from torch import Tensor


def weighted(value: Tensor, weight: Tensor) -> Tensor:
    """A mean and its weight as what a `Meter` adds up: `[2]`, the sum and the weight."""
    weight = weight.detach().to(value.device, value.dtype)
    return torch.stack((value.detach() * weight, weight))


class Means:
    """Weighted means by name, for validation."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor, weight: Tensor) -> None:
        total = weighted(value, weight).double().cpu()
        self._sums[name] = self._sums.get(name, torch.zeros(2, dtype=torch.float64)) + total

    def summary(self) -> dict[str, float]:
        return {name: float(total[0] / total[1]) for name, total in self._sums.items() if total[1]}
