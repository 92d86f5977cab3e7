"""How cost grows with length, batch and levels, beside what the shapes foretell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stages.soundstorm.schedule import PAPER_ITERATIONS
from stages.speed.measured import Result


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How many times as much as the smallest cell of the same network, precision and passes."""

    seconds: float

    flops: float
    """What the seconds would be, if they were proportional to the operations."""


Group = tuple[str, str, str, str]
"""Task, preset or part, precision, passes of each level if they are not the paper's."""


def group_of(result: Result) -> Group:
    """Cells of one group differ in length, batch and levels alone."""
    cell = result.cell
    passes = "" if cell.iterations == PAPER_ITERATIONS else cell.iterations
    return cell.task, cell.what, cell.precision, passes


def growths(results: Sequence[Result]) -> list[Growth | None]:
    """Of each result; None where it has no time or no operations, or nothing to be held against."""
    groups: dict[Group, list[tuple[float, float]]] = {}
    for result in results:
        cost = _cost(result)
        if cost is not None:
            groups.setdefault(group_of(result), []).append(cost)
    return [_growth(_cost(result), groups.get(group_of(result), ())) for result in results]


def _cost(result: Result) -> tuple[float, float] | None:
    """FLOPs and seconds."""
    found = result.measured
    return None if found is None or not found.flops else (found.flops, found.seconds)


def _growth(
    cost: tuple[float, float] | None, group: Sequence[tuple[float, float]]
) -> Growth | None:
    if cost is None or len(group) < 2:
        return None
    flops, seconds = min(group)
    return Growth(seconds=cost[1] / seconds, flops=cost[0] / flops)
