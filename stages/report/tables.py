"""Table 1 as the paper lays it out: metrics by length, originals first, prompts apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.evaluation.lengths import BINS
from stages.evaluation.measure import Metric
from stages.report.columns import columns, key
from stages.report.evaluations import ALL, Evaluation, Judged

GROUPS = {
    "original": "",
    "unprompted": "Without a speaker prompt",
    "prompted": "With a speaker prompt",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A metric of a system, for one length."""

    text: str

    interval: str
    """Empty where there is none."""

    utterances: int | None

    best: bool = False
    """Of its group, where that has more than one system."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with two rows of headings."""

    metrics: list[Metric]

    lengths: list[str]
    """The columns below each metric."""

    counts: dict[str, int]
    """Utterances by length, of the evaluation that has most."""

    groups: list[dict[str, Any]]
    """`title`, and `rows` of `label`, `what`, `values` and `cells`; one cell for each metric and
    length, None where the system lacks it."""

    def to_json(self) -> dict[str, Any]:
        return {
            "metrics": [key(metric) for metric in self.metrics],
            "lengths": self.lengths,
            "utterances": self.counts,
            "groups": [
                {
                    "title": group["title"],
                    "systems": {row["label"]: row["values"] for row in group["rows"]},
                }
                for group in self.groups
            ],
        }


def table_1(evaluations: Sequence[Evaluation]) -> Table:
    """The table of all systems; without lengths in the scores, over all utterances alone."""
    metrics = columns(*(one.value["metrics"] for one in evaluations))
    counts: dict[str, int] = {}
    for name in BINS:
        found = [one.lengths[name] for one in evaluations if name in one.lengths]
        if found:
            counts[name] = max(found)
    total = max(int(one.value["utterances"]) for one in evaluations)
    if sum(counts.values()) < total:
        counts[ALL] = total  # some are shorter or longer than the paper's, or nothing says
    groups = []
    for group, title in GROUPS.items():
        chosen = [
            (system, columns(one.value["metrics"]))
            for one in evaluations
            for system in one.systems
            if _group(system) == group
        ]
        if chosen:
            groups.append({"title": title, "rows": _rows(chosen, metrics, list(counts), group)})
    return Table(metrics=metrics, lengths=list(counts), counts=counts, groups=groups)


def _group(system: Judged) -> str:
    if system.kind != "generated":
        return "original"
    return "prompted" if system.prompted else "unprompted"


def _rows(
    systems: Sequence[tuple[Judged, Sequence[Metric]]],
    metrics: Sequence[Metric],
    lengths: Sequence[str],
    group: str,
) -> list[dict[str, Any]]:
    """Rows of systems, each with the metrics of its evaluation."""
    places = [(metric, length) for metric in metrics for length in lengths]
    values = [
        [_value(system, *place) if place[0] in own else None for place in places]
        for system, own in systems
    ]
    best: list[float | None] = []
    for index, (metric, _) in enumerate(places):
        column = [value["value"] for row in values if (value := row[index]) is not None]
        comparable = group != "original" and len(column) > 1
        pick = max if metric.higher_is_better else min
        best.append(pick(column) if comparable else None)
    return [
        {
            "label": system.label,
            "what": system.what,
            "values": {
                key(metric): {
                    length: value
                    for (other, length), value in zip(places, row, strict=True)
                    if other is metric
                }
                for metric in metrics
            },
            "cells": [
                _cell(value, metric, best=value is not None and value["value"] == top)
                for value, (metric, _), top in zip(row, places, best, strict=True)
            ],
        }
        for (system, _), row in zip(systems, values, strict=True)
    ]


def _value(system: Judged, metric: Metric, length: str) -> Mapping[str, Any] | None:
    found = system.estimates if length == ALL else system.by_length.get(length, {})
    return found.get(metric.name)


def _cell(value: Mapping[str, Any] | None, metric: Metric, *, best: bool) -> Cell | None:
    if value is None:
        return None
    interval = ""
    if value["low"] is not None and value["high"] is not None:
        ends = [f"{metric.scale * value[end]:.{metric.digits}f}" for end in ("low", "high")]
        interval = f"{ends[0]} to {ends[1]}"
    return Cell(
        text=f"{metric.scale * value['value']:.{metric.digits}f}",
        interval=interval,
        utterances=value["utterances"],
        best=best,
    )
