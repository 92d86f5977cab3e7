"""What each setting is worth: its metrics, and how far they are from the default's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stages.ablation.settings import Plan
from stages.ablation.timing import Times
from stages.evaluation.comparison import Comparison
from stages.evaluation.measure import Metric
from stages.evaluation.paired import paired_difference
from stages.evaluation.report import NOTHING, TABLE_MD, Grid, arrow, cell, describe, markdown
from stages.evaluation.statistics import Estimate
from stages.shards.writer import atomic_path

ABLATION_JSON = "ablation.json"
FIGURE_SVG = "figure-4.svg"
PASSES_PNG = "passes.png"
STAR = "A star marks a difference whose 95 % interval does not reach zero."

Differences = dict[str, dict[str, Estimate]]
"""By setting, then metric."""


def differences(chosen: Plan, comparison: Comparison) -> Differences:
    """Every setting's metrics less the default's, over the same utterances."""
    base = comparison.scores[chosen.default.name]
    ids = [utterance.id for utterance in comparison.utterances]
    found: Differences = {}
    for setting in chosen.settings:
        own = comparison.scores[setting.name]
        found[setting.name] = {}
        if setting is chosen.default:
            continue
        for metric in comparison.metrics:
            estimate = paired_difference(
                metric, [own[row_id] for row_id in ids], [base[row_id] for row_id in ids]
            )
            if estimate is not None:
                found[setting.name][metric.name] = estimate
    return found


def document(
    chosen: Plan,
    comparison: Comparison,
    times: Mapping[str, Times],
    *,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """All results as one JSON object; a rerun that computes nothing gives the same bytes."""
    machines: list[dict[str, Any]] = []
    for setting in chosen.settings:
        machines += [one for one in times[setting.name].machines if one not in machines]
    apart = differences(chosen, comparison)
    rows = []
    base = times[chosen.default.name]
    for setting in chosen.settings:
        speed = ratio = None
        if len(machines) == 1:  # of times on different machines no ratio would be fair
            speed = times[setting.name].seconds_per_second()
            ratio = times[setting.name].ratio_to(base)
        rows.append(
            {
                **setting.to_json(),
                "default": setting is chosen.default,
                "seconds_per_second": speed.value if speed else None,
                "seconds_per_second_interval": [speed.low, speed.high] if speed else None,
                "times_default": ratio,
                "metrics": _to_json(comparison.estimates[setting.name]),
                "differences": _to_json(apart[setting.name]),
            }
        )
    names = {setting.name for setting in chosen.settings}
    return {
        "settings": dict(settings),
        "machines": machines,
        "default": chosen.default.name,
        "utterances": len(comparison.utterances),
        "missing": comparison.missing,
        "metrics": describe(comparison.metrics),
        "references": {
            name: _to_json(comparison.estimates[name])
            for name in comparison.systems
            if name not in names
        },
        "rows": rows,
    }


def grids(result: Mapping[str, Any], metrics: Sequence[Metric]) -> list[Grid]:
    """Two tables: what every setting gives, and how far that is from the default."""
    shown = [metric for metric in metrics if metric.in_table]
    headings = [f"{metric.title} {arrow(metric)}" for metric in shown]
    speed = "decoding, s per s of audio"
    values: list[list[str]] = [
        [name, NOTHING, NOTHING, *_cells(found, shown)]
        for name, found in result["references"].items()
    ]
    apart: list[list[str]] = []
    for row in result["rows"]:
        name = f"{row['name']} (default)" if row["default"] else row["name"]
        values.append([name, str(row["passes"]), _speed(row), *_cells(row["metrics"], shown)])
        if not row["default"]:
            ratio = row["times_default"]
            times = NOTHING if ratio is None else f"× {ratio:.2f}"
            apart.append([name, times, *_cells(row["differences"], shown, mark=True)])
    return [
        (["", "passes", speed, *headings], values),
        ([f"less {result['default']}", "time", *headings], apart),
    ]


def write(folder: Path, result: Mapping[str, Any], metrics: Sequence[Metric]) -> str | None:
    """Write `ablation.json`, `table.md` and, if they can be drawn, `passes.png`, `figure-4.svg`.

    Returns:
        Why there is no Figure 4, or None where there is.

    Raises:
        StageFailure: if the folder cannot be written to.
    """
    with atomic_path(folder / ABLATION_JSON) as path:
        text = json.dumps(result, indent=2, ensure_ascii=False, sort_keys=True)
        path.write_text(text + "\n", encoding="utf-8")
    with atomic_path(folder / TABLE_MD) as path:
        path.write_text(f"{markdown(grids(result, metrics))}\n{STAR}\n", encoding="utf-8")
    if find_spec("matplotlib") is None:
        return "matplotlib is not installed: pip install 'soundstorm[eval]'"
    from stages.report.figures import figure_4, figure_passes
    from stages.report.svg import save_svg

    by_passes = figure_passes(result)
    if by_passes is not None:
        with atomic_path(folder / PASSES_PNG) as path:
            by_passes.savefig(path, format="png", dpi=150, metadata={"Software": None})
    figure = figure_4(result)
    if figure is None:
        return "it needs two settings that differ in the first level alone, and a metric of both"
    save_svg(figure, folder / FIGURE_SVG)
    return None


def _to_json(found: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_json() for name, estimate in found.items()}


def _cells(
    found: Mapping[str, Mapping[str, Any]], metrics: Sequence[Metric], *, mark: bool = False
) -> list[str]:
    """Values with intervals; with `mark`, a star where an interval does not reach zero."""
    cells = []
    for metric in metrics:
        value = found.get(metric.name)
        estimate = Estimate(**value) if value else None
        text = cell(estimate, metric.scale, metric.digits + mark)  # differences are small
        if mark and estimate is not None and is_apart(estimate):
            text = f"{text} *"
        cells.append(text)
    return cells


def is_apart(difference: Estimate) -> bool:
    """Whether a difference's interval does not reach zero."""
    low, high = difference.low, difference.high
    return low is not None and high is not None and (low > 0 or high < 0)


def _speed(row: Mapping[str, Any]) -> str:
    value = row["seconds_per_second"]
    return NOTHING if value is None else f"{value:.3g}"
