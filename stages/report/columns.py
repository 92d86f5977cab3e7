"""The metrics of Table 1, in the paper's order and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stages.evaluation.judges.registry import TRANSCRIPT
from stages.evaluation.measure import Metric

CONSISTENCY = "consistency"
QUALITY = "dnsmos_overall"
VOICE = "similarity_prompt"
WER = "wer"
CER = "cer"

_KNOWN = (
    Metric(
        name=WER, title="WER", higher_is_better=False, scale=100, digits=1,
        ratio=("word_errors", "words"),
    ),
    Metric(
        name=CER, title="CER", higher_is_better=False, scale=100, digits=1,
        ratio=("character_errors", "characters"),
    ),
    Metric(name=QUALITY, title="Audio quality (DNSMOS)", higher_is_better=True),
    Metric(name="distillmos", title="Audio quality (DistillMOS)", higher_is_better=True),
    Metric(name=VOICE, title="Voice preservation", higher_is_better=True),
    Metric(name=CONSISTENCY, title="Acoustic consistency", higher_is_better=True),
)  # fmt: skip


def heading(metric: Metric) -> str:
    """Its title with its unit."""
    return f"{metric.title}, %" if metric.scale == 100 else metric.title


def key(metric: Metric) -> str:
    """Its name for programs, which no other column has."""
    return f"{metric.name} (to transcripts)" if metric.reference else metric.name


def columns(*described: Mapping[str, Mapping[str, Any]]) -> list[Metric]:
    """Those of some metrics that the paper's table has.

    With several judges of words, `eval` puts each one's name behind `wer_` and `cer_`, and behind
    what these are made of. A rate that is held against transcripts is another metric than one held
    against texts, and only it has a `reference`.

    Args:
        described: `metrics` of `scores.json` or `ablation.json`, one or several: by name, whether
            higher is better and what a rate is held against.
    """
    given = sorted(
        {
            (name, about.get("reference") == TRANSCRIPT)
            for metrics in described
            for name, about in metrics.items()
        }
    )
    return [
        _column(metric, name.removeprefix(metric.name), transcripts=transcripts)
        for metric in _KNOWN
        for name, transcripts in given
        if name == metric.name or (metric.ratio and name.startswith(f"{metric.name}_"))
    ]


def _column(metric: Metric, suffix: str, *, transcripts: bool) -> Metric:
    """A metric by one judge (`_whisper_base`, or empty) and against one kind of reference."""
    notes = [suffix.removeprefix("_")] * bool(suffix) + ["to transcripts"] * transcripts
    if not notes or metric.ratio is None:
        return metric
    over, under = metric.ratio
    return replace(
        metric,
        name=metric.name + suffix,
        title=f"{metric.title} ({', '.join(notes)})",
        ratio=(over + suffix, under + suffix),
        reference=TRANSCRIPT if transcripts else None,
    )
