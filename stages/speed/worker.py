"""One cell in a process of its own, so that its memory is its own: JSON in, JSON out.

`python -m stages.speed.worker`, which `bench.ask_process` starts. Each task imports only what it
runs, since what a process holds without a network or data is part of the answer.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch

from stages.allocator import keep_freed_memory
from stages.errors import SoundStormError
from stages.speed.cells import DECODE, PIPE, SHARDS, STARTUP, TOKENIZE, TRAIN, VOCODE, Cell
from stages.speed.measured import Measured, Result
from stages.speed.memory import peak_memory
from stages.speed.work import Limits, TooLong, measure

Measurer = Callable[[Cell, Limits, torch.device, float], list[Result]]
"""Measures a cell on a device whose large products reach so many FLOP/s."""


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do what is asked.

    Args:
        request: `device`, `threads`, and either `roofs`, a list of precisions, or a `cell` with
            `limits` and the `roof` of its precision.

    Returns:
        What the machine can do, or the cell's `results`.
    """
    if request["threads"] is not None:
        torch.set_num_threads(request["threads"])
    device = torch.device(request["device"])
    if "roofs" in request:
        return _roofs(request["roofs"], device)
    cell, limits = Cell.from_json(request["cell"]), Limits(**request["limits"])
    try:
        results = MEASURERS[cell.task](cell, limits, device, request["roof"])
    except TooLong as reason:
        results = [Result(cell=cell, why_not=str(reason))]
    except torch.OutOfMemoryError:
        results = [Result(cell=cell, why_not="the GPU's memory does not hold it", failed=True)]
    except SoundStormError as error:
        results = [Result(cell=cell, why_not=str(error), failed=True)]
    return {"results": [result.to_json() for result in results]}


def _roofs(precisions: list[str], device: torch.device) -> dict[str, Any]:
    from stages.machine import describe
    from stages.speed.peak import matrix_roof, memory_roof

    return {
        "machine": describe(device),
        "flops_per_second": {name: matrix_roof(name, device) for name in precisions},
        "bytes_per_second": memory_roof(device),
    }


def _decode(cell: Cell, limits: Limits, device: torch.device, roof: float) -> list[Result]:
    from stages.speed.decoding import Decoding
    from stages.speed.precisions import numbers_of

    base = peak_memory(device)
    numbers = numbers_of(cell.task, cell.precision)
    work = Decoding(cell, device)
    keep_freed_memory()  # as the commands do
    found = measure(work, limits, device, numbers=numbers, roof=roof, base_memory=base)
    return [Result(cell=cell, measured=found)]


def _train(cell: Cell, limits: Limits, device: torch.device, roof: float) -> list[Result]:
    from stages.speed.training import measure_training

    base = peak_memory(device)
    found = measure_training(cell, limits, device, roof=roof, base_memory=base)
    return [Result(cell=cell, measured=found)]


def _audio(cell: Cell, limits: Limits, device: torch.device, roof: float) -> list[Result]:
    from stages.speed.audio_work import WORKS

    base = peak_memory(device)
    work = WORKS[cell.task, cell.what](cell, device)
    keep_freed_memory()  # as the commands do
    return [Result(cell=cell, measured=measure(work, limits, device, roof=roof, base_memory=base))]


def _shards(cell: Cell, limits: Limits, device: torch.device, roof: float) -> list[Result]:
    from stages.speed.shard_work import measure_shards

    del device, roof
    return _named(cell, measure_shards(cell, limits))


def _startup(cell: Cell, limits: Limits, device: torch.device, roof: float) -> list[Result]:
    from stages.speed.commands import measure_startup

    del roof
    # Their audio is next to none and is not what the time is of.
    alone = replace(cell, seconds=Fraction(0), batch=1)
    return _named(alone, measure_startup(cell, limits, str(device)))


def _pipe(cell: Cell, limits: Limits, device: torch.device, roof: float) -> list[Result]:
    from stages.speed.commands import measure_pipe

    del roof
    return [Result(cell=cell, measured=measure_pipe(cell, limits, str(device)))]


def _named(cell: Cell, found: Mapping[str, Measured]) -> list[Result]:
    return [Result(cell=replace(cell, what=what), measured=one) for what, one in found.items()]


MEASURERS: dict[str, Measurer] = {
    DECODE: _decode,
    TRAIN: _train,
    TOKENIZE: _audio,
    VOCODE: _audio,
    SHARDS: _shards,
    STARTUP: _startup,
    PIPE: _pipe,
}
"""By task."""


def main() -> None:
    """Read a request from standard input, write the answer to standard output.

    Whatever else prints, libraries too, goes to standard error.
    """
    sink = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    json.dump(answer(json.load(sys.stdin)), sink)
    sink.close()


if __name__ == "__main__":
    main()
