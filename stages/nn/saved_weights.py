"""Weights as a model folder holds them: whole, in half precision, or in 8 bits with scales."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".scale"
"""Ends the name of the scales, float32, of weights of 8 bits."""

_SHORTEST_ROW = 16
"""Numbers that share a scale, at least; shorter rows are saved in half precision."""

_LARGEST = 127.0


def as_saved(
    weights: Mapping[str, Tensor], precision: str, *, exact: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Round weights to what is to be saved.

    In `int8` each row of a matrix, a filter or an entry of a table has a scale of its own; what is
    no such thing is halved.

    Args:
        weights: by name.
        precision: `float32`, `float16` or `int8`.
        exact: beginnings of the names of those that are left as they are.
    """
    if precision == "float32":
        return dict(weights)
    saved: dict[str, Tensor] = {}
    for name, value in weights.items():
        if value.dtype != torch.float32 or name.startswith(exact):
            saved[name] = value
        elif precision == "int8" and _rows(value).shape[1] >= _SHORTEST_ROW:
            rows = _rows(value)
            scale = rows.abs().amax(dim=1, keepdim=True) / _LARGEST
            safe = scale.where(scale > 0, 1.0)
            saved[name] = (rows / safe).round().to(torch.int8).reshape(value.shape)
            saved[name + SCALE] = scale[:, 0]
        else:
            saved[name] = value.half()
    return saved


def as_loaded(saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What was saved, as float32 again; all else as it is."""
    loaded = {}
    for name, value in saved.items():
        scale = saved.get(name + SCALE)
        if value.dtype == torch.int8 and scale is not None:
            loaded[name] = (_rows(value.float()) * scale[:, None]).reshape(value.shape)
        elif not _is_scale(name, saved):
            loaded[name] = value.float() if value.dtype == torch.float16 else value
    return loaded


def _is_scale(name: str, saved: Mapping[str, Tensor]) -> bool:
    of = saved.get(name.removesuffix(SCALE)) if name.endswith(SCALE) else None
    return of is not None and of.dtype == torch.int8


def _rows(value: Tensor) -> Tensor:
    """`[R, N]`, whose rows share a scale: entries of tables of several levels, filters whole."""
    if value.ndim < 2:
        return value.reshape(-1, 1)
    if value.ndim > 2 and value.shape[-1] >= _SHORTEST_ROW:
        return value.reshape(-1, value.shape[-1])
    return value.reshape(len(value), -1)
