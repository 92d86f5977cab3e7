"""What the encoders with Transformer or Conformer layers share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from stages.errors import DataMismatch
from stages.semantic.base import Frames


def pick_layer(layer: int | None, *, count: int, default: int, where: str) -> int:
    """The 1-based layer that was asked for, or the default.

    Raises:
        DataMismatch: if there is no such layer.
    """
    chosen = default if layer is None else layer
    if not 1 <= chosen <= count:
        raise DataMismatch(f"{where} has layers 1 to {count}, not {chosen}")
    return chosen


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 hex over names, shapes and values: the same weights, whatever file they lay in."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        values = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        digest.update(values.flatten().view(-1).numpy().tobytes())
    return digest.hexdigest()


def encode_each(
    encode: Callable[[Tensor], Tensor], samples: Tensor, lengths: Tensor, dim: int
) -> Frames:
    """Encode each row of `[B, N]` alone, by `[N]` to `[T, D]`, and pad the results."""
    rows = [encode(row[:length]) for row, length in zip(samples, lengths.tolist(), strict=True)]
    counts = [len(row) for row in rows]
    values = torch.zeros(len(rows), max(counts), dim)
    for index, row in enumerate(rows):
        values[index, : len(row)] = row
    return Frames(values=values, lengths=torch.tensor(counts))
