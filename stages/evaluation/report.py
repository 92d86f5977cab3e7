"""Scores for readers and for programs: Markdown, a rich table, JSON and Parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.evaluation.comparison import Comparison
from stages.evaluation.curves import curves_json
from stages.evaluation.lengths import BINS, length_of
from stages.evaluation.masked_tokens import MaskedTokenScores
from stages.evaluation.measure import Metric
from stages.evaluation.statistics import Estimate
from stages.shards.writer import atomic_path

if TYPE_CHECKING:
    from rich.table import Table

SCORES_JSON = "scores.json"
SCORES_PARQUET = "scores.parquet"
TOKENS_PARQUET = "masked-tokens.parquet"
TABLE_MD = "table.md"
NOTHING = "–"

Grid = tuple[list[str], list[list[str]]]
"""Headings and rows of a table."""


def comparison_grid(comparison: Comparison) -> Grid:
    """One row a system; a cell is the value and, below it, its interval."""
    shown = [metric for metric in comparison.metrics if metric.in_table]
    rows = _system_rows(comparison.systems, comparison.estimates, shown)
    return ["", *map(_heading, shown)], rows


def length_grid(comparison: Comparison) -> Grid:
    """One row a bin of length and system, as in the paper's Table 1."""
    shown = [metric for metric in comparison.metrics if metric.in_table]
    rows: list[list[str]] = []
    for name, group in comparison.lengths.items():
        if group.utterances:
            rows += [
                [f"{name} · {first}", *cells]
                for first, *cells in _system_rows(comparison.systems, group.estimates, shown)
            ]
    bins = ", ".join(f"{name} {low:g}-{high:g} s" for name, (low, high) in BINS.items())
    return [bins, *map(_heading, shown)], rows


def _heading(metric: Metric) -> str:
    return f"{metric.title} {arrow(metric)}"


def _system_rows(
    systems: Sequence[str],
    estimates: Mapping[str, Mapping[str, Estimate]],
    metrics: Sequence[Metric],
) -> list[list[str]]:
    """A row a system, and one that says over how many utterances each metric is."""
    rows = [
        [
            name,
            *(cell(estimates[name].get(metric.name), metric.scale, metric.digits)
              for metric in metrics),
        ]
        for name in systems
    ]  # fmt: skip
    counts = []
    for metric in metrics:
        sizes = {
            found[metric.name].utterances for found in estimates.values() if metric.name in found
        }
        counts.append("/".join(map(str, sorted(sizes))) or NOTHING)
    return [*rows, ["utterances", *counts]]


def masked_token_grid(masked: MaskedTokenScores) -> Grid:
    """One row a level or a range of masking ratios."""
    headings = ["masked tokens", "loss, nats ↓", "accuracy % ↑"]
    rows = [
        [name, cell(loss, 1, 3), cell(masked.accuracy.get(name), 100, 1)]
        for name, loss in masked.loss.items()
    ]
    return headings, rows


def markdown(grids: Sequence[Grid]) -> str:
    """The tables as Markdown."""
    blocks = []
    for headings, rows in grids:
        lines = ["| " + " | ".join(map(_markdown_cell, row)) + " |" for row in [headings, *rows]]
        lines.insert(1, "|---|" + "---:|" * (len(headings) - 1))
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _markdown_cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")


def rich_tables(grids: Sequence[Grid]) -> list[Table]:
    """The tables for a terminal."""
    from rich.table import Table

    tables = []
    for headings, rows in grids:
        table = Table(header_style="bold")
        for index, heading in enumerate(headings):
            table.add_column(heading, justify="right" if index else "left", no_wrap=not index)
        for row in rows:
            table.add_row(*row, end_section=len(rows) > 1 and row is rows[-2])
        tables.append(table)
    return tables


def document(
    comparison: Comparison | None,
    masked: MaskedTokenScores | None,
    *,
    settings: dict[str, Any],
    skipped: dict[str, str],
) -> dict[str, Any]:
    """All results as one JSON object; the same scores give the same bytes."""
    value: dict[str, Any] = {"settings": settings, "skipped": skipped}
    failures: list[tuple[str, str]] = []
    if comparison is not None:
        value["skipped"] = skipped | comparison.skipped
        value["utterances"] = len(comparison.utterances)
        value["missing"] = comparison.missing
        value["metrics"] = describe(comparison.metrics)
        value["systems"] = {
            name: {key: found.to_json() for key, found in comparison.estimates[name].items()}
            for name in comparison.systems
        }
        if comparison.lengths:
            value["lengths"] = {
                name: {
                    "utterances": group.utterances,
                    "systems": {
                        system: {key: estimate.to_json() for key, estimate in found.items()}
                        for system, found in group.estimates.items()
                    },
                }
                for name, group in comparison.lengths.items()
            }
        if comparison.curves:
            value["curves"] = {
                name: curves_json(curves) for name, curves in comparison.curves.items()
            }
        failures += comparison.failures
    if masked is not None:
        value["masked_tokens"] = {
            "model": masked.model,
            "loss": {name: found.to_json() for name, found in masked.loss.items()},
            "accuracy": {name: found.to_json() for name, found in masked.accuracy.items()},
        }
        failures += masked.failures
    value["failed"] = len(failures)
    return value


def write_report(
    folder: Path,
    value: dict[str, Any],
    comparison: Comparison | None,
    masked: MaskedTokenScores | None,
) -> None:
    """Write `scores.json`, `table.md` and the Parquet files, each whole or not at all.

    Raises:
        StageFailure: if the folder cannot be written to.
    """
    with atomic_path(folder / SCORES_JSON) as path:
        text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
        path.write_text(text + "\n", encoding="utf-8")
    with atomic_path(folder / TABLE_MD) as path:
        path.write_text(markdown(grids_of(comparison, masked)), encoding="utf-8")
    if comparison is not None:
        with atomic_path(folder / SCORES_PARQUET) as path:
            pq.write_table(utterance_table(comparison), path, compression="zstd")
    if masked is not None:
        columns = ("id", "level", "ratio", "tokens", "loss", "correct")
        table = pa.table({key: [getattr(row, key) for row in masked.scores] for key in columns})
        with atomic_path(folder / TOKENS_PARQUET) as path:
            pq.write_table(table, path, compression="zstd")


def grids_of(comparison: Comparison | None, masked: MaskedTokenScores | None) -> list[Grid]:
    """The tables of whatever was judged."""
    grids = []
    if comparison is not None and comparison.metrics:
        grids.append(comparison_grid(comparison))
        if comparison.lengths:
            grids.append(length_grid(comparison))
    if masked is not None:
        grids.append(masked_token_grid(masked))
    return grids


def utterance_table(comparison: Comparison) -> pa.Table:
    """One row an utterance and system, one column a score; null where there is none."""
    rows = [
        {
            "id": utterance.id,
            "system": name,
            "speaker": utterance.speaker,
            "seconds": utterance.seconds,
            "length": length_of(utterance.seconds),
            **comparison.scores[name][utterance.id],
        }
        for utterance in comparison.utterances
        for name in comparison.systems
    ]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return pa.table({key: [row.get(key) for row in rows] for key in columns})


def describe(metrics: Sequence[Metric]) -> dict[str, Any]:
    """What a reader of their values must know, by name, as JSON values."""
    return {
        metric.name: {"higher_is_better": metric.higher_is_better}
        | ({"reference": metric.reference} if metric.reference else {})
        for metric in metrics
    }


def arrow(metric: Metric) -> str:
    """Which way is better."""
    return "↑" if metric.higher_is_better else "↓"


def cell(found: Estimate | None, scale: float, digits: int) -> str:
    """A value and, on a line of its own, its interval."""
    if found is None:
        return NOTHING
    value = f"{found.value * scale:.{digits}f}"
    if found.low is None or found.high is None:
        return value
    return f"{value}\n[{found.low * scale:.{digits}f}, {found.high * scale:.{digits}f}]"
