"""How everything was made: stages, settings, models, seeds, judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stages.evaluation.statistics import CONFIDENCE, RESAMPLES
from stages.report.evaluations import Evaluation, Judged
from stages.version import __version__

INTERVAL = (
    f"Intervals are {100 * CONFIDENCE:g} % percentile bootstraps over utterances, {RESAMPLES} "
    "resamples. They say how much the choice of utterances matters, not how much the decoder's "
    "seed does. Differences are paired: both systems' scores of an utterance are drawn together."
)


def origins(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """What a reader needs to make it all again, as JSON values."""
    return {
        "version": __version__,
        "interval": INTERVAL,
        "evaluations": [_evaluation(one) for one in evaluations],
    }


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    value = evaluation.value
    settings = value.get("settings", {})
    return {
        "name": evaluation.name,
        "inputs": settings.get("inputs", []),
        "utterances": value["utterances"],
        "failed": value.get("failed", 0),
        "missing": {name: len(ids) for name, ids in value.get("missing", {}).items()},
        "prompt_seconds": settings.get("prompt_seconds"),
        "limit": settings.get("limit"),
        "measures": settings.get("measures", {}),
        "skipped": value.get("skipped", {}),
        "systems": [_system(system) for system in evaluation.systems],
    }


def _system(system: Judged) -> dict[str, Any]:
    return {
        "label": system.label,
        "paths": [place["path"] for place in system.source.get("paths", [])],
        "codec": system.source.get("codec"),
        "vocoder": system.source.get("vocoder"),
        "stages": [
            {
                "stage": record["stage"],
                "version": record["version"],
                "settings": record["settings"],
                "models": record["models"],
            }
            for record in system.stages
        ],
    }


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings as one line: `iterations 16, 1 × 11; temperature 1`."""
    return "; ".join(f"{name} {_value_text(value)}" for name, value in settings.items())


def _value_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({settings_text(value)})"
    if isinstance(value, list):
        return ", ".join(_runs(value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _runs(values: Sequence[Any]) -> list[str]:
    """A list with its repeats counted."""
    texts: list[str] = []
    counts: list[int] = []
    for value in map(_value_text, values):
        if texts and texts[-1] == value:
            counts[-1] += 1
        else:
            texts.append(value)
            counts.append(1)
    return [
        text if count == 1 else f"{text} × {count}"
        for text, count in zip(texts, counts, strict=True)
    ]
