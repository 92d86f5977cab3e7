"""The arithmetic that a trained network runs in: what it gains and costs is in docs/precision.md.

Only matrix products change, most of them to smaller numbers: all linear layers, in the halves
attention and convolution too, and beside int8 attention in bfloat16 where a CPU has it. Embeddings,
norms, what is added up from block to block, and the heads, whose logits decide, are float32 always,
by the library that torch takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import DataMismatch
from stages.nn.conformer import Conformer
from stages.nn.int8 import ROW_ENGINES, Int8Linear
from stages.nn.packed import PackedLinear
from stages.nn.tiled_attention import use_tiles
from stages.nn.transformer import Transformer

FLOAT32 = "float32"

PACKED = "float32-packed"

PRECISIONS = (FLOAT32, PACKED, "int8", "bfloat16", "float16")

_OF_A_CPU = {PACKED: FLOAT32, "int8": "bfloat16 or float16"}
"""Precisions for a CPU alone, and what another device has in their place."""

_HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}

Network = TypeVar("Network", bound=nn.Module)


class HalfLinear(nn.Module):
    """A linear layer with weights of 16 bits; what comes out has as many."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().to(dtype), requires_grad=False)
        bias = None if linear.bias is None else linear.bias.detach().to(dtype)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., K]` of any float to `[..., N]`."""
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


class FloatNorm(nn.Module):
    """A LayerNorm that makes float32 of what it gets."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D]` of any float to `[..., D]`."""
        out: Tensor = self.norm(x.float())
        return out


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse what is no precision, or none on a device.

    Raises:
        DataMismatch: saying what would be one.
    """
    if precision not in PRECISIONS:
        raise DataMismatch(f"{precision} is no precision: use one of {', '.join(PRECISIONS)}")
    if precision in _OF_A_CPU and device.type != "cpu":
        instead = _OF_A_CPU[precision]
        raise DataMismatch(f"{precision} is for a CPU, not for {device}: use {instead} there")


def is_slow(precision: str, device: torch.device) -> bool:
    """Whether a device must imitate a precision, and would do better with float32."""
    if device.type != "cpu" or precision not in _HALVES or torch.cpu._is_amx_tile_supported():
        return False
    return precision == "float16" or not has_bfloat16()


def has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 by itself."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def attention_precision(precision: str) -> str:
    """What attention is of, beside linear layers of a precision."""
    if precision == "int8":
        return "bfloat16" if has_bfloat16() else FLOAT32
    return FLOAT32 if precision == PACKED else precision


def to_precision(network: Network, precision: str, device: torch.device) -> Network:
    """Put a network on a device in a precision, to be used alone and without gradients.

    Args:
        network: in float32 and evaluation mode; it is changed, and must not be trained or saved
            afterwards. float32 changes nothing but the device.
        precision: of `PRECISIONS`.
        device: where it is to run.

    Returns:
        The same network. It takes and gives what it did, float32 features among it.

    Raises:
        DataMismatch: if the precision is none, or none on this device or of this network.
    """
    check_precision(precision, device)
    token_by_token = any(isinstance(module, Transformer) for module in network.modules())
    if precision == "int8":
        engines = ROW_ENGINES if token_by_token else None
        _exchange(network.cpu(), lambda layer: _int8(layer, engines))
    elif precision != FLOAT32 and token_by_token:
        raise DataMismatch(f"AudioLM does not run in {precision}: use float32 or int8")
    elif precision == PACKED:
        _exchange(network.cpu(), _packed)
    elif precision in _HALVES:
        _exchange(network, lambda layer: _half(layer, _HALVES[precision]))
    in_bfloat16 = attention_precision(precision) == "bfloat16"
    if in_bfloat16 and device.type == "cpu" and has_bfloat16():
        for module in network.modules():
            if isinstance(module, Conformer):
                use_tiles(module)
    return network.to(device)


def _exchange(module: nn.Module, replacement: Callable[[nn.Module], nn.Module | None]) -> None:
    """Put the replacements of layers, where there are some, in the place of all below a module."""
    for name, child in module.named_children():
        new = replacement(child)
        if new is None:
            _exchange(child, replacement)
        else:
            setattr(module, name, new)


def _int8(layer: nn.Module, engines: Sequence[str] | None) -> nn.Module | None:
    return Int8Linear(layer, engines=engines) if isinstance(layer, nn.Linear) else None


def _packed(layer: nn.Module) -> nn.Module | None:
    return PackedLinear(layer) if isinstance(layer, nn.Linear) else None


def _half(layer: nn.Module, dtype: torch.dtype) -> nn.Module | None:
    if isinstance(layer, nn.Linear):
        return HalfLinear(layer, dtype)
    if isinstance(layer, nn.LayerNorm):
        return FloatNorm(layer)
    return layer.to(dtype) if isinstance(layer, nn.Conv2d) else None
