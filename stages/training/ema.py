"""A running mean of a network's weights, which scores better than the last step's."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of parameters; buffers are copied as they are."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after update `step` (counted from 0).

        The decay rises with the step to its final value, so that the first, random weights are
        soon forgotten.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        mine: list[Tensor] = list(self.module.parameters())
        torch._foreach_lerp_(mine, [p.detach() for p in module.parameters()], 1.0 - decay)
        for target, source in zip(self.module.buffers(), module.buffers(), strict=True):
            target.copy_(source)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.module.state_dict())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.module.load_state_dict(state)
