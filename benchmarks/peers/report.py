"""The numbers as JSON and as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers.cells import Cell
from benchmarks.peers.measure import OUR_NAME, OURS, Limits, summarise

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A cell and what its sides took."""

    cell: Cell

    sides: Mapping[str, Mapping[str, Any]]
    """By name, ours first: what `summarise` gives."""

    load: float
    """The machine's load average as the cell began; near 0 if it was idle."""

    def ratio(self, side: str) -> float:
        """How many times our median a side's is."""
        return float(self.sides[side]["seconds"] / self.sides[OUR_NAME]["seconds"])

    def times_variants(self) -> dict[tuple[str, str], float]:
        """How many times the median of a variant of ours a peer's is, by both names."""
        _, *others = self.cell.sides
        variants = [side.name for side in others if side.module == OURS]
        peers = [side.name for side in others if side.module != OURS]
        return {
            (peer, variant): float(self.sides[peer]["seconds"] / self.sides[variant]["seconds"])
            for peer in peers
            for variant in variants
        }

    def agreed(self) -> bool | None:
        """Whether the sides gave the same result; None where there is none to compare."""
        if self.cell.same is None:
            return None
        found = [side[self.cell.same] for side in self.sides.values() if self.cell.same in side]
        return len(set(found)) == 1 if len(found) > 1 else None

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.cell.kind,
            "what": self.cell.what,
            "size": self.cell.size,
            "audio_seconds": self.cell.audio_seconds,
            "load": self.load,
            "agreed": self.agreed(),
            "sides": {name: dict(side) for name, side in self.sides.items()},
            "ratios": {name: self.ratio(name) for name in self.sides if name != OUR_NAME},
            "ratios_to_variants": [
                {"peer": peer, "variant": variant, "ratio": ratio}
                for (peer, variant), ratio in self.times_variants().items()
            ],
        }


def measured(
    cell: Cell, results: Mapping[str, Sequence[Mapping[str, Any]]], load: float
) -> Measured:
    """From the runs of each side."""
    sides = {name: summarise(runs) for name, runs in results.items()}
    return Measured(cell=cell, sides=sides, load=load)


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a run found."""

    machine: Mapping[str, Any]

    versions: Mapping[str, str]
    """Of the peers and what they rest on."""

    limits: Limits

    cells: Sequence[Measured]

    learned: Mapping[str, Any] | None = None

    failures: Sequence[str] = field(default_factory=list)
    """Cells that could not be measured, each with why."""

    def to_json(self) -> dict[str, Any]:
        return {
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "threads": self.limits.threads,
            "repeats": self.limits.repeats,
            "budget_seconds": self.limits.budget,
            "cells": [cell.to_json() for cell in self.cells],
            "learned": self.learned,
            "failures": list(self.failures),
        }


def markdown(report: Report) -> str:
    """Tables for reading."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    machine, limits = report.machine, report.limits
    yield "# Beside what else there is"
    yield ""
    yield (
        f"{machine['processor']}, {limits.threads} threads on each side, torch {machine['torch']}, "
        f"float32. Each run is a process of its own, in turn with the other side's. Times are the "
        f"median, then the fastest and the slowest, of up to {limits.repeats} runs, fewer where "
        f"more would not end within {limits.budget:g} s. Memory is the most that the process had "
        "resident (`ru_maxrss`, nothing taken off), then what it had after its imports."
    )
    yield ""
    yield ", ".join(f"{name} {version}" for name, version in report.versions.items()) + "."
    loads = [cell.load for cell in report.cells]
    if loads:
        yield ""
        yield (
            f"The machine's load average was {min(loads):.2g} to {max(loads):.2g} as cells began "
            "(one runs after the other: what ran before counts, too)."
        )
    for kind in dict.fromkeys(cell.cell.kind for cell in report.cells):
        yield from _table([cell for cell in report.cells if cell.cell.kind == kind])
    if report.learned is not None:
        yield from _learned(report.learned)
    for failure in report.failures:
        yield ""
        yield f"**Not measured:** {failure}"


HEADINGS = {
    "decode": "SoundStorm: decoding",
    "train": "SoundStorm: a training step",
    "audiolm": "AudioLM: a token",
    "encodec": "EnCodec: tokens of files",
}


def _table(cells: Sequence[Measured]) -> Iterator[str]:
    yield from ("", f"## {HEADINGS[cells[0].cell.kind]}", "")
    yield (
        "| size | what | | parameters | time | fastest to slowest | runs | x ours | "
        "memory, GiB | after imports |"
    )
    yield "|---|---|---|--:|--:|--:|--:|--:|--:|--:|"
    for cell in cells:
        for name, side in cell.sides.items():
            first = name == OUR_NAME
            yield (
                f"| {cell.cell.size if first else ''} | {cell.cell.what if first else ''} | {name} "
                f"| {_millions(side)} | {_time(cell.cell, side['seconds'])} "
                f"| {_spread(cell.cell, side)} | {side['runs']} "
                f"| {'' if first else number(cell.ratio(name))} | {_gib(side, 'peak_bytes')} "
                f"| {_gib(side, 'imported_bytes')} |"
            )
    for cell in cells:
        yield from _notes(cell)


def _notes(cell: Measured) -> Iterator[str]:
    """What the table does not say."""
    for (peer, variant), ratio in cell.times_variants().items():
        yield ""
        yield (
            f"{cell.cell.size}, {cell.cell.what}: {peer} takes {number(ratio)} times as long as "
            f"{variant}."
        )
    for name, side in cell.sides.items():
        if side.get("masked"):
            yield ""
            whose = "our network" if name == OUR_NAME else f"the network of {name}"
            yield (
                f"{cell.cell.size}, {cell.cell.what}: {whose} saw at the level due, pass by pass, "
                f"so many masks: {' '.join(map(str, side['masked']))}."
            )
    if cell.agreed() is not None:
        yield ""
        yield (
            "The tokens of both are the same, every one."
            if cell.agreed()
            else "**The tokens differ.**"
        )


def _learned(learned: Mapping[str, Any]) -> Iterator[str]:
    models = learned["models"]
    yield from ("", "## What was learned", "")
    yield (
        f"{learned['steps']} steps of {learned['batch']} windows of {learned['window']} frames, "
        f"the same for both, from {learned['train_frames']:,} frames; then the same hidden tokens "
        f"of {learned['valid_rows']} held-out rows. Nats a hidden token (and accuracy, %); "
        "*frequencies* guesses by how common each token is in the windows."
    )
    yield ""
    yield f"| level | {' | '.join(models)} | frequencies | tokens |"
    yield f"|--:|{'--:|' * (len(models) + 2)}"
    counts = models[OUR_NAME]["tokens"]
    for level, guess in enumerate(learned["frequencies"]):
        cells = [
            f"{model['nats'][level]:.3f} ({100 * model['accuracy'][level]:.1f})"
            for model in models.values()
        ]
        yield f"| {level + 1} | {' | '.join(cells)} | {guess:.3f} | {counts[level]:,.0f} |"
    cells = [
        f"{model['all_nats']:.3f} ({100 * model['all_accuracy']:.1f})" for model in models.values()
    ]
    total = sum(counts)
    guess = sum(g * c for g, c in zip(learned["frequencies"], counts, strict=True)) / max(total, 1)
    yield f"| all | {' | '.join(cells)} | {guess:.3f} | {total:,.0f} |"
    cells = [f"{_gib(model, 'peak_bytes')} GiB" for model in models.values()]
    yield f"| memory | {' | '.join(cells)} | | |"


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _time(cell: Cell, seconds: float) -> str:
    text = f"{number(seconds / cell.scale)} {cell.unit}"
    if cell.audio_seconds is not None:
        text += f" ({number(cell.audio_seconds / seconds)} s of audio a second)"
    return text


def _spread(cell: Cell, side: Mapping[str, Any]) -> str:
    if side["runs"] == 1:
        return ""
    return f"{number(side['fastest'] / cell.scale)} to {number(side['slowest'] / cell.scale)}"


def _millions(side: Mapping[str, Any]) -> str:
    return f"{side['parameters'] / 1e6:.1f} M" if "parameters" in side else ""


def _gib(side: Mapping[str, Any], name: str) -> str:
    return f"{side[name] / GIB:.2f}" if name in side else ""
