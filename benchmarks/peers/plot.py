"""The figure: how many times our time and memory each peer takes, and what was learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.peers.measure import OUR_NAME
from benchmarks.peers.report import Measured, Report

ROW = 0.22
"""Inches of a bar."""


def draw(report: Report, target: Path) -> None:
    """Write a picture."""
    bars = [
        (f"{cell.cell.what}, {cell.cell.size}: {name}", cell, name)
        for cell in report.cells
        for name in cell.sides
        if name != OUR_NAME
    ]
    panels = bool(bars) + (report.learned is not None)
    if not panels:
        return
    figure = Figure(figsize=(6.5 * panels, 1.2 + max(2.5, ROW * len(bars))), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    if bars:
        _ratios(axes[0], bars)
    if report.learned is not None:
        _levels(axes[-1], report.learned)
    figure.savefig(target, dpi=150)


def _ratios(axis: Any, bars: Sequence[tuple[str, Measured, str]]) -> None:
    places = range(len(bars))
    beyond = [cell.ratio(name) - 1.0 for _, cell, name in bars]  # bars begin at "as long as ours"
    axis.barh(places, beyond, left=1.0, height=0.7, color="#4477aa")
    memory = [
        cell.sides[name]["peak_bytes"] / cell.sides[OUR_NAME]["peak_bytes"]
        for _, cell, name in bars
    ]
    axis.plot(memory, places, "o", markersize=4, color="#cc6677", label="memory")
    axis.set_yticks(places, [label for label, _, _ in bars], fontsize=6)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.axvline(1.0, color="black", linewidth=0.8)
    axis.set_xlabel("times ours: bars time, dots memory")


def _levels(axis: Any, learned: Any) -> None:
    levels = range(1, len(learned["frequencies"]) + 1)
    for name, model in learned["models"].items():
        axis.plot(levels, model["nats"], marker="o", markersize=3, label=name)
    axis.plot(levels, learned["frequencies"], linestyle=":", color="grey", label="frequencies")
    axis.set_xlabel("level")
    axis.set_ylabel("nats a hidden token")
    axis.legend(frameon=False)
