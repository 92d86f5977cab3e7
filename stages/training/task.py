"""What a model must bring to be trained by the one loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from stages.training.schedule import learning_rate
from stages.training.settings import TrainingSettings

Batch = TypeVar("Batch")
Batch_co = TypeVar("Batch_co", covariant=True)

MODEL = "model"
"""The player that every task has: it is averaged, validated and exported."""


@dataclass(frozen=True, kw_only=True)
class StepOutput:
    """The loss of a micro-batch as a sum, so that micro-batches and processes add up."""

    loss: Tensor
    """Scalar with gradients: the sum over all that counts (masked tokens, frames, samples)."""

    weight: Tensor
    """Scalar: how many things were summed. The step's loss is the sum over all micro-batches of
    all processes divided by the sum of their weights."""

    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """What else to log: `[2]` without gradients, a sum and its weight, by name."""


class TrainingData(Protocol[Batch_co]):
    """Batches as a function of the step; reads nothing but its own fields, so a worker can."""

    def micro_batches(self, step: int, rank: int, world: int) -> Sequence[Batch_co]:
        """This process's share of a step: what all the processes get is one batch, whatever
        `world` is. `loading.Unread` where nothing of it could be read."""


class Task(ABC, Generic[Batch]):
    """A model in training: its networks, its data, its losses, and how it is saved.

    Several networks that train against each other are several players, each with an optimiser
    of its own. Implementations set every attribute below in their constructor.
    """

    settings: TrainingSettings

    device: torch.device

    players: dict[str, nn.Module]
    """The networks, on `device`; `MODEL` is among them."""

    data: TrainingData[Batch]

    data_fingerprint: str
    """SHA-256 hex of the training data; a run resumes only on the same."""

    exact_weights: tuple[str, ...] = ()
    """Beginnings of the names of weights that are saved in full precision whatever the others are:
    those that tokens hang on."""

    surrogate: bool = False
    """Whether `StepOutput.loss` is good for its gradient only, and `parts` has the true `loss`."""

    def turns(self, step: int) -> Sequence[str]:
        """The players that are updated at a step, in order."""
        del step
        return (MODEL,)

    def prepare(self) -> None:
        """Work out what the first step needs of the data, in every process; nothing where it is
        there already. It may take minutes."""

    @abstractmethod
    def loss(self, player: str, batch: Batch, step: int) -> StepOutput:
        """A micro-batch's loss for one player; moves the batch to `device` itself.

        Dropout and the like may draw from torch's global generators: they are seeded before.
        """

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Scores of `model` (averaged weights) on the validation set, always the same examples
        under the same random choices; empty without one."""
        del model
        return {}

    def learning_rate(self, player: str, step: int) -> float:
        del player
        return learning_rate(step, self.settings.optimiser)

    def statistics(self, player: str) -> Sequence[Tensor]:
        """A player's floating-point buffers that follow the data, averaged over processes."""
        del player
        return ()

    def state(self) -> dict[str, Tensor]:
        """What must be saved beyond networks and optimisers."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave."""
        del state

    @abstractmethod
    def initialise(self, folder: Path) -> None:
        """Start from the weights of another model folder.

        Raises:
            DataMismatch: if that model does not fit.
        """

    @abstractmethod
    def export(self, folder: Path, weights: Mapping[str, Tensor], extra: dict[str, Any]) -> None:
        """Write a model folder from the `MODEL`'s averaged weights."""


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases (of several heads, say, so a table), norms and vectors do not."""
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim >= 2 and not name.endswith("bias")
            (decaying if is_matrix else others).append(parameter)
    return [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
