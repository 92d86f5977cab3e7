"""Linear layers with 8-bit integer weights, for a CPU.

A weight is rounded once, when the network is loaded: symmetrically, to -127..127, with a scale of
its own for each output channel. What goes in is rounded at each call to 256 steps between its
smallest and largest value, zero included. The product is of integers and exact; what comes out is
float32 again.

torch's own kernels do it, called by name: its module for this,
`torch.ao.nn.quantized.dynamic.Linear`, is deprecated in favour of torchao, which calls the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.errors import DataMismatch

STEPS = 127
"""Of a weight, on each side of zero; -128 is left out, so that zero is in the middle."""

ENGINES = ("onednn", "fbgemm", "qnnpack")
"""torch's libraries for it, best first where many rows share a call (a Conformer's frames)."""

ROW_ENGINES = ("fbgemm", "onednn", "qnnpack")
"""Best first where a call has one row (a Transformer's next token), or few outputs."""

FEW_OUTPUTS = 512
"""Up to which, and up to as many as inputs, much of a call is the rounding of what comes in."""


def best_engines(linear: nn.Linear) -> tuple[str, ...]:
    """torch's libraries for a layer where many rows share a call, best first."""
    few = linear.out_features <= min(FEW_OUTPUTS, linear.in_features)
    return ROW_ENGINES if few else ENGINES


class Int8Linear(nn.Module):
    """What takes a linear layer's place; for use alone, on a CPU, without gradients."""

    def __init__(self, linear: nn.Linear, *, engines: Sequence[str] | None = None) -> None:
        """Round the weights of a layer.

        Args:
            linear: the layer, float32, on the CPU; it is left as it is.
            engines: of torch's libraries, the first that is there is taken; `best_engines` if None.

        Raises:
            DataMismatch: if torch has none here.
        """
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        engine = _first_of(engines or best_engines(linear))
        # Without the instruction that adds four products at once (VNNI), they are added in pairs
        # in 16 bits, which full 8-bit factors overflow: the input then has 128 steps only.
        self._reduced = engine != "qnnpack" and not torch.cpu._is_vnni_supported()
        weight = linear.weight.detach()  # [N, K]
        scales = (weight.abs().amax(dim=1).double() / STEPS).clamp(min=2.0**-100)  # [N]
        rounded = torch.quantize_per_channel(
            weight, scales, torch.zeros_like(scales, dtype=torch.long), 0, torch.qint8
        )
        chosen = torch.backends.quantized.engine
        torch.backends.quantized.engine = engine  # decides how the weights are laid out
        try:
            self._packed = torch.ops.quantized.linear_prepack(rounded, linear.bias)
        finally:
            torch.backends.quantized.engine = chosen

    def forward(self, x: Tensor) -> Tensor:
        """`[..., K]` to `[..., N]`, float32 both."""
        out: Tensor = torch.ops.quantized.linear_dynamic(x, self._packed, self._reduced)
        return out


def _first_of(engines: Sequence[str]) -> str:
    there = _supported()
    for engine in engines:
        if engine in there:
            return engine
    raise DataMismatch("torch has no 8-bit arithmetic for this CPU: use float32")


def _supported() -> list[str]:
    return list(torch.backends.quantized.supported_engines)
