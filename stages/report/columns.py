"""The metrics of Table 1, in the paper's order and words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

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


def columns(names: Iterable[str]) -> list[Metric]:
    """Those of some metrics that the paper's table has.

    With several judges of words, `eval` puts each one's name behind `wer_` and `cer_`, and behind
    what these are made of.
    """
    given = sorted(names)
    found = []
    for metric in _KNOWN:
        found += [metric] if metric.name in given else []
        if metric.ratio is None:
            continue
        over, under = metric.ratio
        for name in given:
            judge = name.removeprefix(f"{metric.name}_")
            if judge != name:
                title = f"{metric.title} ({judge})"
                ratio = (f"{over}_{judge}", f"{under}_{judge}")
                found.append(replace(metric, name=name, title=title, ratio=ratio))
    return found
