"""A Conformer whose pass is compiled, for shapes that come again and again.

Each length of row would be compiled anew. So frames are padded to one of few lengths and the
padding masked. What is compiled holds no decision that waits for the device: on a GPU all of its
kernels are launched as one CUDA graph. Nothing else of a decoding needs to know.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import DataMismatch, StageFailure
from stages.nn.conformer import Conformer
from stages.nn.int8 import Int8Linear
from stages.nn.packed import PackedLinear

LEAST_FRAMES = 64
"""The shortest padded length: about a second."""

STEPS_AN_OCTAVE = 8
"""Padded lengths between one and its double: no more than an eighth is padding."""

_SHAPES = 256
"""For which code is kept at most; torch would go on uncompiled, silently, after eight."""

_OF_NO_COMPILER = {Int8Linear: "int8", PackedLinear: "float32-packed"}
"""Layers that torch cannot compile, by the precision that makes them."""

BACKEND = "inductor"
"""Of torch.compile: makes code. `eager` only traces."""


def padded_length(frames: int) -> int:
    """The length that T frames are padded to: T at least, and less than 9 / 8 T from 64 on."""
    if frames <= LEAST_FRAMES:
        return LEAST_FRAMES
    octave = 1 << ((frames - 1).bit_length() - 1)  # the largest power of two below T
    step = octave // STEPS_AN_OCTAVE
    return -(-frames // step) * step


class CompiledConformer(nn.Module):
    """Takes a Conformer's place, for use alone; what it gives differs by rounding only."""

    def __init__(self, conformer: Conformer, device: torch.device) -> None:
        """Prepare to compile; that happens at the first pass of each length.

        Args:
            conformer: in evaluation mode, on the device, with no layer of `_OF_NO_COMPILER`.
            device: where it is.
        """
        super().__init__()
        self.conformer = conformer
        graphs = BACKEND == "inductor" and device.type == "cuda"
        self._pass = torch.compile(
            conformer.forward,
            fullgraph=True,
            backend=BACKEND,
            mode="reduce-overhead" if graphs else None,
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `Conformer.forward`, of all its blocks.

        Raises:
            StageFailure: if it cannot be compiled here.
        """
        T = x.shape[1]
        more = padded_length(T) - T
        if mask is None:  # always there, so that a length has one shape and not two
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        padded, real = F.pad(x, (0, 0, 0, more)), F.pad(mask, (0, more))
        for tensor in (padded, real):  # whereas code for any number of rows is made at their second
            torch._dynamo.mark_static(tensor, 1)
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        try:
            with torch._dynamo.config.patch(recompile_limit=_SHAPES):
                features: Tensor = self._pass(padded, real)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise StageFailure(f"the network cannot be compiled here ({reason})") from error
        # A copy: the next pass writes where this one wrote.
        return features[:, :T].clone()


def compile_conformer(network: nn.Module, device: torch.device) -> None:
    """Have the passes of a network's `conformer` compiled.

    Raises:
        DataMismatch: if they cannot be, in the network's precision or with what is installed.
    """
    for kind, precision in _OF_NO_COMPILER.items():
        if any(isinstance(module, kind) for module in network.modules()):
            raise DataMismatch(
                f"{precision} passes cannot be compiled: leave --compile or {precision} out"
            )
    if BACKEND == "inductor":
        _require_compiler()
    conformer = network.get_submodule("conformer")
    assert isinstance(conformer, Conformer)
    network.add_module("conformer", CompiledConformer(conformer, device))


def _require_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise DataMismatch(
            "--compile needs a C++ compiler: install g++, or name one with CXX"
        ) from None
