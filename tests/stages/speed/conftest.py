"""Results that nobody measured, for tables, figures and files."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest

from stages.speed.bench import Ask
from stages.speed.cells import Cell
from stages.speed.measured import Measured, Result


def pretend(cell: Cell) -> list[Result]:
    """Decoding takes its audio's length in seconds, in one of three passes; training is refused."""
    if cell.task == "train":
        return [Result(cell=cell, why_not="it is too long")]
    seconds = float(cell.audio)
    measured = Measured(
        times=[seconds, 2 * seconds, 3 * seconds],
        steps=3,
        steps_run=1 if seconds > 5 else 3,
        spent=seconds,
        flops=1e9 * seconds**2,
        moved=1e8 * seconds,
        products=[seconds / 2, seconds, seconds],
        base_memory=1_000_000,
        peak_memory=7_000_000,
    )
    return [Result(cell=cell, measured=measured)]


@pytest.fixture
def ask() -> Ask:
    """Answers at once."""

    def answer(request: Mapping[str, Any]) -> dict[str, Any]:
        if "roofs" in request:
            return {
                "machine": {"processor": "abacus", "threads": 1, "torch": "2"},
                "flops_per_second": dict.fromkeys(request["roofs"], 100000000000.0),
                "bytes_per_second": 1e10,
            }
        results = pretend(Cell.from_json(request["cell"]))
        return {"results": [result.to_json() for result in results]}

    return answer


@pytest.fixture
def mini_cell() -> Cell:
    return Cell(task="decode", what="mini", seconds=Fraction(1, 5), batch=2, levels=3)
