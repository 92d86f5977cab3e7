"""The numbers as JSON and as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.runtime.cells import Cell, Limits

CODEC = "codec"


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a run found."""

    machine: dict[str, Any]

    limits: Limits

    cells: Sequence[Cell]
    """Of every size, and the codec's."""

    points: Sequence[dict[str, Any]]
    """All that was probed."""

    def sizes(self) -> list[str]:
        """In order, without the codec."""
        return list(dict.fromkeys(cell.size for cell in self.cells if cell.system != CODEC))

    def cells_of(self, size: str) -> list[Cell]:
        """A size's cells, and the codec's, which all sizes share."""
        return [cell for cell in self.cells if cell.size == size or cell.system == CODEC]

    def find(self, size: str, system: str, audio: float) -> Cell:
        """One cell."""
        return next(
            cell for cell in self.cells_of(size) if cell.system == system and cell.audio == audio
        )

    def comparisons(self) -> list[dict[str, Any]]:
        """For each size and length: how many times as long AudioLM's stages two and three take as
        SoundStorm, and the real-time factor of SoundStorm with the codec."""
        rows = []
        for size in self.sizes():
            for audio in dict.fromkeys(cell.audio for cell in self.cells_of(size)):
                slow, fast, sound = (
                    self.find(size, system, audio) for system in ("acoustic", "soundstorm", CODEC)
                )
                rows.append(
                    {
                        "size": size,
                        "audio": audio,
                        "ratio": slow.runtime / fast.runtime,
                        "ratio_extrapolated": slow.extrapolated or fast.extrapolated,
                        "real_time_factor": (fast.runtime + sound.runtime) / audio,
                        "real_time_factor_extrapolated": fast.extrapolated or sound.extrapolated,
                    }
                )
        return rows

    def worst_prediction(self) -> float | None:
        """By what share the probes were off, at most, where a run was whole too."""
        errors = [
            abs(cell.predicted / cell.runtime - 1) for cell in self.cells if not cell.extrapolated
        ]
        return max(errors, default=None)

    def to_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "budget_seconds": self.limits.budget,
            "repeats": self.limits.repeats,
            "cells": [cell.to_json() for cell in self.cells],
            "comparisons": self.comparisons(),
            "points": list(self.points),
        }


def markdown(report: Report) -> str:
    """Tables for reading."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    machine = report.machine
    on = machine.get("accelerator", machine["processor"])
    yield "# Runtime"
    yield ""
    yield (
        f"{on}, {machine['threads']} threads, torch {machine['torch']}, {machine['precision']}; "
        f"one utterance at a time, without a prompt. Seconds are the median, then the fastest and "
        f"the slowest, of up to {report.limits.repeats} runs that take "
        f"{report.limits.budget:g} s at most. **≈** is extrapolated from as many seconds of "
        f"measured generation as are named; a system's lengths may share them."
    )
    worst = report.worst_prediction()
    if worst is not None:
        yield ""
        yield (
            "Where runs were whole, an extrapolation from the probes before them would have been "
            f"off by {100 * worst:.0f} % at most."
        )
    for size in report.sizes():
        yield from _size_lines(report, size)


def _size_lines(report: Report, size: str) -> Iterator[str]:
    yield ""
    yield f"## {size}"
    yield ""
    yield (
        "| | audio, s | runtime, s | fastest to slowest | from | steps | GFLOP | weights moved, GB "
        "| cache moved, GB |"
    )
    yield "|---|--:|--:|--:|---|--:|--:|--:|--:|"
    before = ""
    for cell in report.cells_of(size):
        name = "" if cell.label == before else f"{cell.label} ({cell.parameters / 1e6:.1f} M)"
        before = cell.label
        runs = f"{cell.runs} run{'s' * (cell.runs > 1)}"
        spread = f"{number(cell.fastest)} to {number(cell.slowest)}" if cell.runs > 1 else ""
        source = (
            f"**extrapolated** from {number(cell.measured)} s measured"
            if cell.extrapolated
            else runs
        )
        yield (
            f"| {name} | {cell.audio:g} | {_about(cell.extrapolated)}{number(cell.runtime)} "
            f"| {spread} | {source} "
            f"| {cell.cost.steps:,} | {number(cell.cost.flops / 1e9)} "
            f"| {number(cell.cost.weight_bytes / 1e9)} | {number(cell.cost.cache_bytes / 1e9)} |"
        )
    yield ""
    yield "| audio, s | AudioLM 2 and 3 / SoundStorm | real-time factor of SoundStorm and codec |"
    yield "|--:|--:|--:|"
    for row in report.comparisons():
        if row["size"] == size:
            yield (
                f"| {row['audio']:g} | {_about(row['ratio_extrapolated'])}{number(row['ratio'])} "
                f"| {_about(row['real_time_factor_extrapolated'])}"
                f"{number(row['real_time_factor'])} |"
            )


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _about(extrapolated: bool) -> str:
    return "≈ " if extrapolated else ""
