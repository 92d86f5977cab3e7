"""Everything that was asked for, cell by cell, each in a fresh process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from stages.errors import StageFailure
from stages.speed.cells import Cell, Choice, cells_of
from stages.speed.commands import environment
from stages.speed.measured import Result
from stages.speed.precisions import require_possible
from stages.speed.work import Limits

Ask = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Answers a request as `worker.answer` does."""

BUSY = 0.25
"""Load of a core, before anything is measured, from which a machine counts as busy."""


@dataclass(frozen=True, kw_only=True)
class Roofs:
    """What the machine can do, whatever the work."""

    flops_per_second: Mapping[str, float]
    """Of a large matrix product, by precision."""

    bytes_per_second: float
    """Of copying memory, reads and writes counted."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """All that a run found."""

    machine: Mapping[str, Any]

    roofs: Roofs

    limits: Limits

    load: float
    """Processes that wanted to run, on average over the minute before the first measurement."""

    cores: int
    """That this process may use."""

    results: Sequence[Result] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        """Whether others were at work when it began."""
        return self.load > BUSY * self.cores

    @property
    def failed(self) -> int:
        """Cells that broke off."""
        return sum(result.failed for result in self.results)

    def to_json(self) -> dict[str, Any]:
        return {
            "machine": dict(self.machine),
            "cores": self.cores,
            "load_before": self.load,
            "roofs": asdict(self.roofs),
            "budget_seconds": self.limits.budget,
            "repeats": self.limits.repeats,
            "results": [result.to_json() for result in self.results],
        }


def bench(
    choice: Choice,
    limits: Limits,
    *,
    device: str = "cpu",
    threads: int | None = None,
    ask: Ask | None = None,
    tell: Callable[[Result], None] = lambda result: None,
) -> Bench:
    """Measure.

    Args:
        choice: what.
        limits: how much of each cell.
        device: where.
        threads: of each process; torch's own number by default.
        ask: answers requests; by default a fresh process each.
        tell: is given each result as it comes.

    Raises:
        DataMismatch: if the device does not have a precision.
        StageFailure: if not even the machine can be measured.
    """
    ask = ask or ask_process
    cells = cells_of(choice)
    for cell in cells:
        require_possible(cell.task, cell.precision, torch.device(device))
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    common: dict[str, Any] = {"device": device, "threads": threads}
    precisions = list(dict.fromkeys(["float32", *(cell.precision for cell in cells)]))
    machine = ask({**common, "roofs": precisions})
    roofs = Roofs(
        flops_per_second=machine["flops_per_second"], bytes_per_second=machine["bytes_per_second"]
    )
    results = []
    for cell in cells:
        request = {
            **common,
            "cell": cell.to_json(),
            "limits": asdict(limits),
            "roof": roofs.flops_per_second[cell.precision],
        }
        for result in _answered(ask, request, cell):
            tell(result)
            results.append(result)
    return Bench(
        machine=machine["machine"],
        roofs=roofs,
        limits=limits,
        load=load,
        cores=cores,
        results=results,
    )


def _answered(ask: Ask, request: Mapping[str, Any], cell: Cell) -> list[Result]:
    """A cell's results; one that says why not, where its process died."""
    try:
        return [Result.from_json(value) for value in ask(request)["results"]]
    except StageFailure as failure:
        return [Result(cell=cell, why_not=str(failure), failed=True)]


def ask_process(request: Mapping[str, Any]) -> dict[str, Any]:
    """Have a fresh process answer.

    Raises:
        StageFailure: if it dies.
    """
    threads = request["threads"]
    more = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-m", "stages.speed.worker"],
        input=json.dumps(request).encode(),
        stdout=subprocess.PIPE,
        check=False,
        env=environment(more),
    )
    if done.returncode == -signal.SIGKILL:
        raise StageFailure("its process was killed, perhaps for want of memory")
    if done.returncode:
        raise StageFailure(f"its process ended with exit code {done.returncode}")
    answered: dict[str, Any] = json.loads(done.stdout)
    return answered
