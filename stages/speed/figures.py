"""Pictures of what was found: the roofline, and growth against what the shapes foretell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from stages.report.svg import INK, MARKERS, PALETTE, PAPER, STYLE
from stages.shards.writer import atomic_path
from stages.speed.bench import Bench
from stages.speed.growth import Group, group_of, growths
from stages.speed.measured import Result

WIDTH, HEIGHT = 7.0, 4.4
"""Inches."""


def draw_roofline(found: Bench, target: Path) -> bool:
    """Write the roofline; False where nothing has both operations and bytes.

    A mark is a cell: operations a second over operations a byte that its products move. The bar
    above it reaches to what its products alone are done with. Roofs are the large product's speed
    in each precision, and below it what copying memory lets through.
    """
    chosen = [r for r in found.results if r.measured is not None and r.measured.intensity]
    if not chosen:
        return False
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axis = figure.subplots()
        reach = [r.measured.intensity for r in chosen if r.measured is not None]
        _roofs(axis, found, low=min(filter(None, reach)), high=max(filter(None, reach)))
        for group, marker, colour in _styles(chosen):
            for result in chosen:
                if group_of(result) == group:
                    _mark(axis, result, marker, colour)
        _logarithmic(axis)
        axis.set_xlabel("FLOPs a byte of the products' factors and results")
        axis.set_ylabel("GFLOP/s")
        _legend(figure, chosen)
        _save(figure, target)
    return True


def draw_growth(found: Bench, target: Path) -> bool:
    """Write how seconds grew over how operations did; False where no group has two cells."""
    grown = growths(found.results)
    chosen = [r for r, growth in zip(found.results, grown, strict=True) if growth is not None]
    if not chosen:
        return False
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axis = figure.subplots()
        most = 1.0
        for group, marker, colour in _styles(chosen):
            points = [
                (growth.flops, growth.seconds, result.measured.extrapolated)
                for result, growth in zip(found.results, grown, strict=True)
                if growth is not None and result.measured is not None and group_of(result) == group
            ]
            for foretold, seconds, extrapolated in points:
                face = PAPER if extrapolated else colour
                axis.plot(foretold, seconds, marker, color=colour, markerfacecolor=face)
            most = max(most, *(max(point[:2]) for point in points))
        axis.plot([1, most], [1, most], color=INK, linestyle=":", linewidth=1)
        _logarithmic(axis)
        axis.set_xlabel("FLOPs, times the smallest cell's")
        axis.set_ylabel("seconds, times the smallest cell's")
        _legend(figure, chosen)
        _save(figure, target)
    return True


def _logarithmic(axis: Axes) -> None:
    """Both axes, with plain numbers."""
    axis.set_xscale("log")
    axis.set_yscale("log")
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        one.set_major_formatter(FormatStrFormatter("%g"))
        one.set_minor_locator(NullLocator())


def _roofs(axis: Axes, found: Bench, *, low: float, high: float) -> None:
    for name, peak in found.roofs.flops_per_second.items():
        ridge = peak / found.roofs.bytes_per_second
        ends = (min(low, ridge) / 2, ridge, 2 * max(high, ridge))
        heights = [min(peak, found.roofs.bytes_per_second * end) / 1e9 for end in ends]
        axis.plot(ends, heights, color=INK, linewidth=1)
        axis.annotate(
            name, (ends[-1], heights[-1]), ha="right", va="bottom", xytext=(0, 2),
            textcoords="offset points",
        )  # fmt: skip


def _mark(axis: Axes, result: Result, marker: str, colour: str) -> None:
    measured = result.measured
    assert measured is not None
    assert measured.speed is not None
    assert measured.intensity is not None
    height = measured.speed / 1e9
    if measured.share is not None:
        axis.plot(
            [measured.intensity] * 2, [height, height / measured.share], color=colour, linewidth=0.8
        )
    face = PAPER if measured.extrapolated else colour
    axis.plot(measured.intensity, height, marker, color=colour, markerfacecolor=face)


def _styles(results: Sequence[Result]) -> list[tuple[Group, str, str]]:
    """A marker and a colour for each group: markers tell tasks apart, colours what is in them."""
    groups = list(dict.fromkeys(map(group_of, results)))
    tasks = list(dict.fromkeys(task for task, *_ in groups))
    return [
        (group, MARKERS[tasks.index(group[0]) % len(MARKERS)], PALETTE[index % len(PALETTE)])
        for index, group in enumerate(groups)
    ]


def _legend(figure: Figure, results: Sequence[Result]) -> None:
    handles = [
        Line2D([], [], marker=marker, color=colour, linestyle="", label=" ".join(group).strip())
        for group, marker, colour in _styles(results)
    ]
    if any(result.measured is not None and result.measured.extrapolated for result in results):
        handles.append(
            Line2D([], [], marker="o", color=INK, markerfacecolor=PAPER, linestyle="",
                   label="extrapolated")
        )  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3)


def _save(figure: Figure, target: Path) -> None:
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
