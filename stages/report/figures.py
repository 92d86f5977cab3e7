"""The paper's figures 2, 3 and 4 from this toolkit's own numbers, and quality by passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator

from stages.evaluation.measure import Metric
from stages.report.ablations import BY_LEVEL, KINDS, kind_of
from stages.report.columns import CER, QUALITY, columns, heading
from stages.report.svg import INK, MARKERS, PALETTE, PAPER, STYLE

HEIGHT = 3.0
"""Inches."""

WIDTH = 3.4
"""Inches of a panel."""

_RUNTIME_COLOURS = {
    "acoustic": PALETTE[1],
    "semantic": PALETTE[4],
    "soundstorm": PALETTE[0],
    "codec": PALETTE[3],
}


def figure_2(curves: Mapping[str, Any], colours: Mapping[str, str]) -> Figure | None:
    """Consistency with the prompt over time: the median and the quartiles of each system.

    Args:
        curves: `seconds` and `systems` of the curves of `scores.json`.
        colours: of each system, by name.
    """
    systems = {
        name: curve for name, curve in curves.get("systems", {}).items() if curve.get("median")
    }
    if not systems:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.7 * WIDTH, HEIGHT), layout="constrained")
        axis = figure.subplots()
        for index, (name, curve) in enumerate(systems.items()):
            colour = colours[name]
            drawn = [  # where only some utterances are long enough there may be none at all
                point
                for point in zip(
                    curves["seconds"], curve["median"], curve["low"], curve["high"], strict=True
                )
                if None not in point
            ]
            seconds, median, low, high = zip(*drawn, strict=True)
            axis.fill_between(seconds, low, high, color=colour, alpha=0.15, linewidth=0)
            axis.plot(
                seconds, median, color=colour, label=name, marker=MARKERS[index % len(MARKERS)],
                linestyle="--" if colour == INK else "-",
            )  # fmt: skip
        axis.set_xlabel("seconds after the prompt")
        axis.set_ylabel("consistency with the prompt")
        _legend_below(figure, axis)
        _settle(figure)
    return figure


def figure_3(runtime: Mapping[str, Any]) -> Figure:
    """Runtime over the length of audio, a panel a size of the models.

    Hollow marks are extrapolated, the dotted line is real time.

    Args:
        runtime: what the runtime benchmark wrote: `cells` by size, system and length.
    """
    cells = runtime["cells"]
    sizes = list(dict.fromkeys(cell["size"] for cell in cells if cell["system"] != "codec"))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * max(1.3, len(sizes)), HEIGHT + 0.4), layout="constrained")
        axes = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
        for size, axis in zip(sizes, axes, strict=True):
            _runtime_panel(axis, [cell for cell in cells if cell["size"] == size
                                  or cell["system"] == "codec"])  # fmt: skip
            axis.set_title(size, loc="left")
        axes[0].set_ylabel("runtime, seconds")
        axes[0].yaxis.set_major_formatter(FormatStrFormatter("%g"))
        handles, labels = axes[0].get_legend_handles_labels()
        if any(cell["extrapolated"] for cell in cells):
            handles.append(
                Line2D([], [], marker="o", color=INK, markerfacecolor=PAPER, linestyle="")
            )
            labels.append("extrapolated")
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        _settle(figure)
    return figure


def _runtime_panel(axis: Axes, cells: Sequence[Mapping[str, Any]]) -> None:
    audio = sorted({cell["audio"] for cell in cells})
    for marker, (system, colour) in zip(MARKERS, _RUNTIME_COLOURS.items(), strict=False):
        own = [cell for cell in cells if cell["system"] == system]
        if not own:
            continue
        axis.plot(
            [cell["audio"] for cell in own], [cell["runtime"] for cell in own],
            color=colour, marker=marker, label=own[0]["label"],
        )  # fmt: skip
        hollow = [cell for cell in own if cell["extrapolated"]]
        axis.plot(
            [cell["audio"] for cell in hollow], [cell["runtime"] for cell in hollow],
            color=colour, marker=marker, markerfacecolor=PAPER, linestyle="",
        )  # fmt: skip
    axis.plot(audio, audio, color=INK, linestyle=":", linewidth=1, label="real time")
    axis.set_yscale("log")
    axis.set_xticks(audio)
    axis.set_xlabel("audio, seconds")


def figure_4(ablation: Mapping[str, Any]) -> Figure | None:
    """Metrics over the passes of the first level, with 95 % intervals; further levels greedy.

    Args:
        ablation: what `ablate` wrote.

    Returns:
        None where fewer than two settings differ in the first level alone.
    """
    rows = first_level_rows(ablation)
    metrics = _shared_metrics(ablation, rows)
    if len(rows) < 2 or not metrics:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * max(1.3, len(metrics)), HEIGHT), layout="constrained")
        axes = figure.subplots(1, len(metrics), squeeze=False)[0]
        for axis, metric in zip(axes, metrics, strict=True):
            _iterations_panel(axis, rows, metric)
        _settle(figure)
    return figure


def figure_passes(ablation: Mapping[str, Any]) -> Figure | None:
    """Metrics over all passes of the network, with 95 % intervals: what fewer of them cost.

    Args:
        ablation: what `ablate` wrote.

    Returns:
        None where all settings take as many passes, or share no metric.
    """
    rows = sorted(ablation["rows"], key=lambda row: int(row["passes"]))
    metrics = _shared_metrics(ablation, rows)
    passes = sorted({row["passes"] for row in rows})
    if len(passes) < 2 or not metrics:
        return None
    default = next(row for row in rows if row["default"])
    kinds = [kind_of(row, default) for row in rows]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * max(1.3, len(metrics)), HEIGHT), layout="constrained")
        axes = figure.subplots(1, len(metrics), squeeze=False)[0]
        for axis, metric in zip(axes, metrics, strict=True):
            for index, kind in enumerate(KINDS):
                own = [row for row, its in zip(rows, kinds, strict=True) if its == kind]
                if own:
                    _passes_series(axis, own, metric, PALETTE[index], MARKERS[index], kind)
            _whole_numbers(axis, _legible(passes))
            axis.set_xlabel("passes of the network")
            axis.set_title(_titled(metric), loc="left")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        _settle(figure)
    return figure


def _passes_series(
    axis: Axes,
    rows: Sequence[Mapping[str, Any]],
    metric: Metric,
    colour: str,
    marker: str,
    label: str,
) -> None:
    found = [row["metrics"][metric.name] for row in rows]
    values = [metric.scale * value["value"] for value in found]
    passes = [row["passes"] for row in rows]
    known = all(value["low"] is not None for value in found)
    margins = [
        [metric.scale * abs(value[end] - value["value"]) for value in found]
        for end in (("low", "high") if known else ())
    ]
    axis.errorbar(
        passes, values, yerr=margins or None, color=colour, marker=marker, label=label,
        linestyle="-" if label == BY_LEVEL else "", elinewidth=0.8, capsize=2,
    )  # fmt: skip


def first_level_rows(ablation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The settings that differ in the first level's passes alone, by those."""
    default = next(row for row in ablation["rows"] if row["default"])
    rows = [
        row
        for row in ablation["rows"]
        if all(passes == 1 for passes in row["iterations"][1:])
        and kind_of(row, default) == BY_LEVEL
    ]
    return sorted(rows, key=lambda row: int(row["iterations"][0]))


def _iterations_panel(axis: Axes, rows: Sequence[Mapping[str, Any]], metric: Metric) -> None:
    passes = [row["iterations"][0] for row in rows]
    found = [row["metrics"][metric.name] for row in rows]
    if all(value["low"] is not None for value in found):
        axis.fill_between(
            passes,
            [metric.scale * value["low"] for value in found],
            [metric.scale * value["high"] for value in found],
            color=PALETTE[0], alpha=0.2, linewidth=0,
        )  # fmt: skip
    axis.plot(
        passes, [metric.scale * value["value"] for value in found], color=PALETTE[0], marker="o"
    )
    _whole_numbers(axis, passes)
    axis.set_xlabel("iterations in the first level")
    axis.set_title(_titled(metric), loc="left")


def _shared_metrics(ablation: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Metric]:
    """What some of its settings all have, without CER, which tells what WER tells."""
    metrics = [
        metric
        for metric in columns(ablation["metrics"])
        if not metric.name.startswith(CER) and all(metric.name in row["metrics"] for row in rows)
    ]
    return sorted(metrics, key=lambda metric: metric.name != QUALITY)  # the paper's own is first


def _titled(metric: Metric) -> str:
    better = "higher" if metric.higher_is_better else "lower"
    return f"{heading(metric)} ({better} is better)"


def _legible(numbers: Sequence[int]) -> list[int]:
    """Ascending numbers without those that a logarithmic axis would write over one another."""
    kept: list[int] = []
    for number in numbers:
        if not kept or number >= 1.15 * kept[-1]:
            kept.append(number)
    return kept


def _whole_numbers(axis: Axes, numbers: Sequence[int]) -> None:
    """A logarithmic axis with a mark at each of some numbers."""
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(numbers))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))


def _legend_below(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))


def _settle(figure: Figure) -> None:
    """Lay a figure out once: drawn again it would move a little, and its bytes would change."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
