"""One process or many: what a step must agree on between them.

Gradients are summed here after the last micro-batch rather than in hooks during the backward
pass, since a step's loss is a mean over all tokens of all processes, whose number is known only
then, and since the losses of several networks are not one `forward`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET_ELEMENTS = 1 << 24
"""Gradients are sent in pieces of 64 MiB: few enough messages, little extra memory."""

PATIENCE = timedelta(days=1)
"""How long a process waits for the others, of whom the first alone prepares the data and validates;
torch's own 10 or 30 minutes would end the run. A process that dies is torchrun's to notice."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes that train together; alone, every method does nothing."""

    rank: int = 0

    world: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def union(self, names: Iterable[str]) -> list[str]:
        """Names that any process has, sorted."""
        mine = sorted(names)
        if self.world == 1:
            return mine
        gathered: list[list[str] | None] = [None] * self.world
        dist.all_gather_object(gathered, mine)
        return sorted({name for theirs in gathered for name in theirs or ()})

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum gradients over the processes; every parameter must have one."""
        if self.world == 1:
            return
        bucket: list[Tensor] = []
        elements = 0
        for parameter in parameters:
            assert parameter.grad is not None
            bucket.append(parameter.grad)
            elements += parameter.grad.numel()
            if elements >= BUCKET_ELEMENTS:
                _sum_bucket(bucket)
                bucket, elements = [], 0
        if bucket:
            _sum_bucket(bucket)

    @torch.no_grad()
    def average(self, statistics: Sequence[Tensor]) -> None:
        """Make running statistics those of all the processes' data."""
        if self.world > 1:
            for statistic in statistics:
                dist.all_reduce(statistic)
                statistic /= self.world

    @torch.no_grad()
    def share_weights(self, module: nn.Module) -> None:
        """Give every process the first one's weights."""
        if self.world > 1:
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor.data, 0)

    def wait(self) -> None:
        """Until all the processes have come here."""
        if self.world > 1:
            dist.barrier()


def _sum_bucket(gradients: list[Tensor]) -> None:
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, summed in zip(gradients, torch.split(flat, sizes), strict=True):
        gradient.copy_(summed.view_as(gradient))


def local_device(device: str) -> str:
    """`cuda` becomes this process's own GPU under torchrun."""
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Join the group that torchrun made (its environment variables), or train alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes()
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(torch.device(device))
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield Processes(rank=dist.get_rank(), world=world)
    finally:
        dist.destroy_process_group()
