"""Making the batches of coming steps in worker processes, ahead of the network."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader, Dataset

from stages.errors import StageFailure
from stages.training.task import TrainingData

ENDLESS = 1 << 40

PATIENCE = 20
"""Steps on end without any data after which a run gives up."""


class Unread(list[Any]):
    """A step's micro-batches where nothing of them could be read: none."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Make it; `problems` are sentences on why, at least one."""
        super().__init__()
        self.problems = list(problems)


class _Steps(Dataset[Any]):
    """Step numbers to this process's micro-batches."""

    def __init__(self, data: TrainingData[Any], rank: int, world: int) -> None:
        self._data, self._rank, self._world = data, rank, world

    def __getitem__(self, step: int) -> Sequence[Any]:
        return self._data.micro_batches(step, self._rank, self._world)


def batches_from(
    data: TrainingData[Any],
    *,
    start: int,
    rank: int,
    world: int,
    workers: int,
    warn: Callable[[str], None],
) -> Iterator[Sequence[Any]]:
    """The micro-batches of step `start`, `start + 1`, ..., the same for any number of workers.

    A step that has none is warned of, unless for a reason that was told already.

    Raises:
        StageFailure: if `PATIENCE` steps on end have none, for nothing of theirs can be read.
    """
    loader = DataLoader(
        _Steps(data, rank, world),
        sampler=range(start, ENDLESS),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_leave_signals_to_parent,
    )
    unread = 0
    told: set[str] = set()
    for step, batch in enumerate(loader, start):
        if not isinstance(batch, Unread):
            unread = 0
        else:
            unread += 1
            problem = batch.problems[0]
            if unread == PATIENCE:
                raise StageFailure(
                    f"nothing of the training data could be read in {PATIENCE} steps on end; the "
                    f"last: {problem}"
                )
            if problem not in told:
                told.add(problem)
                warn(f"nothing could be read for step {step}; the first: {problem}")
        yield batch


@contextmanager
def worker_deaths_told() -> Iterator[None]:
    """Turn the death of a worker, which torch raises wherever this process then is, into a
    `StageFailure`."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise StageFailure(
            "a process that made batches was killed, perhaps for want of memory: use fewer "
            "--workers; the same command goes on from the last checkpoint"
        ) from error


def _as_it_is(batches: Any) -> Any:
    return batches


def _leave_signals_to_parent(worker: int) -> None:
    """A worker goes on through Ctrl-C and SIGTERM, so that the parent can end its step; it ends
    with its parent."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
