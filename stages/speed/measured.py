"""What came of a cell: its times, and what they are held against."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from stages.speed.cells import Cell


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Times and what they are of; all but `times` may be unknown to a kind of work."""

    times: list[float]
    """Seconds of all the work, of each run; of each round of stretches, where no run was whole."""

    steps: int = 1
    """Of all the work: passes of a decoding."""

    steps_run: int = 1
    """Of these, those that were run each time; fewer than `steps` make `times` extrapolations."""

    spent: float = 0.0
    """Seconds that runs really took together."""

    flops: float | None = None
    """Of all the work, by its shapes."""

    moved: float | None = None
    """Bytes that the factors and results of its matrix products have, each counted once."""

    products: list[float] = field(default_factory=list)
    """Seconds of the work's matrix products alone, measured beside each of `times`."""

    base_memory: int | None = None
    """Bytes that the process held before there was a network or data."""

    peak_memory: int | None = None
    """Most bytes that it ever held; on a GPU, most that tensors took there."""

    more: Mapping[str, float] = field(default_factory=dict)
    """What only this kind of work has: tokens or rows a second, and the like."""

    @property
    def seconds(self) -> float:
        """The median."""
        return statistics.median(self.times)

    @property
    def extrapolated(self) -> bool:
        """Whether no run was whole."""
        return self.steps_run < self.steps

    @property
    def shares(self) -> list[float]:
        """For each time, what the products alone take of it."""
        if not self.products:
            return []
        return [alone / whole for alone, whole in zip(self.products, self.times, strict=True)]

    @property
    def share(self) -> float | None:
        """Of the machine's own peak on the work's products: the median of `shares`."""
        return statistics.median(self.shares) if self.products else None

    @property
    def speed(self) -> float | None:
        """FLOP/s."""
        return None if self.flops is None else self.flops / self.seconds

    @property
    def intensity(self) -> float | None:
        """FLOPs a byte of `moved`."""
        return self.flops / self.moved if self.flops and self.moved else None

    def to_json(self, audio: float) -> dict[str, Any]:
        """Every number, also what follows from others; `audio` is the cell's seconds."""
        own = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            **own,
            "seconds": self.seconds,
            "fastest": min(self.times),
            "slowest": max(self.times),
            "extrapolated": self.extrapolated,
            "real_time_factor": self.seconds / audio if audio else None,
            "share_of_peak": self.share,
            "flops_per_second": self.speed,
            "flops_per_byte": self.intensity,
        }


@dataclass(frozen=True, kw_only=True)
class Result:
    """A cell and what came of it."""

    cell: Cell

    measured: Measured | None = None

    why_not: str = ""
    """Why nothing was measured."""

    failed: bool = False
    """Whether it should have been: not too long for the budget, but broken off."""

    def to_json(self) -> dict[str, Any]:
        found = None if self.measured is None else self.measured.to_json(float(self.cell.audio))
        return {
            "cell": self.cell.to_json(),
            "measured": found,
            "why_not": self.why_not,
            "failed": self.failed,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Result:
        """What `to_json` gave."""
        found = value["measured"]
        names = {item.name for item in fields(Measured)}
        return Result(
            cell=Cell.from_json(value["cell"]),
            measured=None
            if found is None
            else Measured(**{key: item for key, item in found.items() if key in names}),
            why_not=value["why_not"],
            failed=value["failed"],
        )
