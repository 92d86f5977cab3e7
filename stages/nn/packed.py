"""Linear layers whose float32 weights are laid out for oneDNN once, for a CPU.

torch multiplies in float32 by MKL, which lays out weights at every call and which not every CPU is
fast with. oneDNN's own product needs no more than the layout, and sums in another order: what
comes out differs by rounding.

torch's own kernels do it, called by the names by which its compiler calls them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.errors import DataMismatch


class PackedLinear(nn.Module):
    """What takes a linear layer's place; for use alone, on a CPU, without gradients."""

    def __init__(self, linear: nn.Linear) -> None:
        """Lay out the weights of a layer.

        Args:
            linear: the layer, float32, on the CPU; it is left as it is.

        Raises:
            DataMismatch: if torch has no oneDNN here.
        """
        super().__init__()
        if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            raise DataMismatch("torch has no oneDNN for this CPU: use float32")
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._weight = packed(linear.weight.detach())
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """`[..., K]` to `[..., N]`, float32 both."""
        return packed_product(x, self._weight, self._bias)


def packed(weight: Tensor) -> Tensor:
    """`[N, K]` float32, laid out as `packed_product` wants it, for any number of rows."""
    laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return laid_out


def packed_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`[..., K]` float32 and a packed weight to `[..., N]`."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out
