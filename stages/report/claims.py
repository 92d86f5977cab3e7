"""What the paper says, held against the figures at hand: supported, contradicted, or open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Literal

import numpy as np

from stages.evaluation.measure import Metric
from stages.evaluation.paired import Column, estimate_of, paired_difference
from stages.evaluation.statistics import Estimate
from stages.report.ablations import BY_LEVEL, TOGETHER, kind_of
from stages.report.columns import CONSISTENCY, QUALITY, VOICE, WER, columns, heading
from stages.report.evaluations import ALL, Evaluation, Judged

Verdict = Literal["supports it", "contradicts it", "cannot tell"]

SMALLEST_GAIN = 0.1
"""Of quality, that the paper calls a gain (4.3: 16 iterations gain 0.1 to 0.2 over greedy)."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One difference that bears on a claim."""

    what: str
    """Which systems, and of what."""

    difference: str
    """With its 95 % interval."""

    utterances: int

    verdict: Verdict

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement of the paper, and all that was found on it."""

    statement: str

    source: str
    """Where the paper says it."""

    findings: list[Finding]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def claims(evaluations: Sequence[Evaluation], ablation: Mapping[str, Any] | None) -> list[Claim]:
    """All claims on which there is something to say."""
    found = [
        Claim(
            statement="SoundStorm is more intelligible than AudioLM: its WER is lower.",
            source="section 4.2, Table 1",
            findings=list(_metric_findings(evaluations, WER)),
        ),
        Claim(
            statement="SoundStorm keeps the prompt's voice better than AudioLM.",
            source="section 4.2, Table 1",
            findings=list(_metric_findings(evaluations, VOICE)),
        ),
        Claim(
            statement="SoundStorm's acoustic consistency is closer to the recordings' than "
            "AudioLM's.",
            source="section 4.2, Figure 2",
            findings=list(_consistency_findings(evaluations)),
        ),
        Claim(
            statement="16 iterations in the first level sound better than greedy decoding.",
            source="section 4.3, Figure 4, Table 2",
            findings=[*_greedy_findings(evaluations), *_ablated_greedy(ablation)],
        ),
        Claim(
            statement="More iterations, in the first level or in further ones, sound no better.",
            source="section 4.3, Figure 4, Table 2",
            findings=list(_more_iterations(ablation)),
        ),
    ]
    return [claim for claim in found if claim.findings]


def _pairs(evaluation: Evaluation) -> Iterator[tuple[Judged, Judged]]:
    """Each SoundStorm that is not greedy, and each AudioLM, prompted or not alike."""
    for ours in evaluation.systems:
        for theirs in evaluation.systems:
            if (
                ours.method == "soundstorm"
                and not ours.greedy
                and theirs.method == "audiolm"
                and ours.prompted == theirs.prompted
            ):
                yield ours, theirs


def _metric_findings(evaluations: Sequence[Evaluation], family: str) -> Iterator[Finding]:
    """SoundStorm less AudioLM, of all metrics of a family (one for each judge of words)."""
    for evaluation in evaluations:
        metrics = [
            metric
            for metric in columns(evaluation.value["metrics"])
            if metric.name == family or metric.name.startswith(f"{family}_")
        ]
        for ours, theirs in _pairs(evaluation):
            for metric in metrics:
                yield from _by_length(evaluation, ours, theirs, metric)


def _by_length(
    evaluation: Evaluation, ours: Judged, theirs: Judged, metric: Metric
) -> Iterator[Finding]:
    for length in [ALL, *evaluation.lengths]:
        found = _difference(evaluation, ours, theirs, metric, length)
        if found is not None:
            what = f"{heading(metric)}: {ours.label} less {theirs.label}{_of_length(length)}"
            verdict = better(found) if metric.higher_is_better else better(negative(found))
            yield finding(what, found, metric, verdict)


def _difference(
    evaluation: Evaluation, ours: Judged, theirs: Judged, metric: Metric, length: str = ALL
) -> Estimate | None:
    own, other = (_rows(evaluation, one, length) for one in (ours, theirs))
    ids = sorted(own.keys() & other.keys())
    return paired_difference(
        metric, [own[row_id] for row_id in ids], [other[row_id] for row_id in ids]
    )


def _rows(evaluation: Evaluation, system: Judged, length: str) -> Mapping[str, Any]:
    rows = evaluation.rows[system.name]
    if length == ALL:
        return rows
    return {row_id: row for row_id, row in rows.items() if row.get("length") == length}


def _consistency_findings(evaluations: Sequence[Evaluation]) -> Iterator[Finding]:
    """How much further AudioLM's mean is from the recordings' than SoundStorm's."""
    (metric,) = columns({CONSISTENCY: {}})
    for evaluation in evaluations:
        recordings = [one for one in evaluation.systems if one.kind == "recordings"]
        for ours, theirs in _pairs(evaluation) if recordings else ():
            for length in [ALL, *evaluation.lengths]:
                scores = [_rows(evaluation, one, length) for one in (ours, theirs, recordings[0])]
                found = _closeness([_column(one, CONSISTENCY, scores) for one in scores])
                if found is not None:
                    what = (
                        f"Distance from {recordings[0].label}: {ours.label} less {theirs.label}"
                        f"{_of_length(length)}"
                    )
                    yield finding(what, found, metric, better(negative(found)))


def _column(scores: Mapping[str, Any], name: str, shared: Sequence[Mapping[str, Any]]) -> Column:
    """A score of the utterances for which all systems have it, `[U]`."""
    ids = sorted(set.intersection(*({key for key in one if name in one[key]} for one in shared)))
    return np.array([scores[row_id][name] for row_id in ids], dtype=np.float64)


def _closeness(values: Sequence[Column]) -> Estimate | None:
    """|ours - recordings| - |theirs - recordings|, of means over utterances."""

    def statistic(ours: Column, theirs: Column, recordings: Column, axis: int = -1) -> Any:
        truth = recordings.mean(axis)
        return abs(ours.mean(axis) - truth) - abs(theirs.mean(axis) - truth)

    return estimate_of(values, statistic)


def _greedy_findings(evaluations: Sequence[Evaluation]) -> Iterator[Finding]:
    """Quality of each SoundStorm of 16 iterations less that of the same one's greedy decoding."""
    (metric,) = columns({QUALITY: {}})
    for evaluation in evaluations:
        for ours, greedy in product(evaluation.systems, repeat=2):
            if not _greedy_twins(ours, greedy):
                continue
            found = _difference(evaluation, ours, greedy, metric)
            if found is not None:
                what = f"{heading(metric)}: {ours.label} less {greedy.label}"
                yield finding(what, found, metric, better(found))


def _greedy_twins(ours: Judged, greedy: Judged) -> bool:
    """Whether 16 iterations in the first level, sampled as in the paper, are all that differs."""
    own, other = ours.decoded_by, greedy.decoded_by
    if own is None or other is None or greedy.iterations is None:
        return False
    return (
        greedy.greedy
        and ours.iterations == [16, *greedy.iterations[1:]]
        and own["settings"]["temperature"] == 1.0
        and own["models"] == other["models"]
        and all(
            own["settings"].get(name) == other["settings"].get(name)  # absent where it is usual
            for name in ("guidance", "precision")
        )
        and ours.prompted == greedy.prompted
    )


def _ablated_greedy(ablation: Mapping[str, Any] | None) -> Iterator[Finding]:
    """The same from an ablation, whose differences are to its default."""
    if ablation is None:
        return
    default = _default(ablation)
    for row, found, metric in _quality_differences(ablation):
        sixteen = default["iterations"] == [16, *row["iterations"][1:]]
        if sixteen and max(row["iterations"]) == 1 and kind_of(row, default) == BY_LEVEL:
            gain = negative(found)
            what = f"{heading(metric)}: {ablation['default']} less {row['name']}"
            yield finding(what, gain, metric, better(gain))


def _more_iterations(ablation: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Quality of what takes more passes than the default, less the default's."""
    if ablation is None or _default(ablation)["iterations"][0] < 16:
        return
    default = _default(ablation)
    for row, found, metric in _quality_differences(ablation):
        if row["passes"] > default["passes"] and kind_of(row, default) in (BY_LEVEL, TOGETHER):
            what = f"{heading(metric)}: {row['name']} less {default['name']}"
            yield finding(what, found, metric, no_better(found))


def _default(ablation: Mapping[str, Any]) -> Mapping[str, Any]:
    row: Mapping[str, Any] = next(row for row in ablation["rows"] if row["default"])
    return row


def _quality_differences(
    ablation: Mapping[str, Any],
) -> Iterator[tuple[Mapping[str, Any], Estimate, Metric]]:
    (metric,) = columns({QUALITY: {}})
    for row in ablation["rows"]:
        found = row["differences"].get(QUALITY)
        if found is not None:
            yield row, Estimate(**found), metric


def better(gain: Estimate) -> Verdict:
    """Whether a gain is one, by its interval."""
    if gain.low is None or gain.high is None:
        return "cannot tell"
    if gain.low > 0:
        return "supports it"
    return "contradicts it" if gain.high < 0 else "cannot tell"


def no_better(gain: Estimate) -> Verdict:
    """Whether a gain of quality is none: the interval must leave no room for one worth the name."""
    if gain.low is None or gain.high is None:
        return "cannot tell"
    if gain.low > 0:
        return "contradicts it"
    return "supports it" if gain.high < SMALLEST_GAIN else "cannot tell"


def negative(difference: Estimate) -> Estimate:
    """The difference the other way round."""
    low, high = difference.low, difference.high
    return Estimate(
        value=-difference.value,
        low=None if high is None else -high,
        high=None if low is None else -low,
        utterances=difference.utterances,
    )


def finding(what: str, found: Estimate, metric: Metric, verdict: Verdict) -> Finding:
    """Put a difference into words."""
    return Finding(
        what=what,
        difference=difference_text(found, metric),
        utterances=found.utterances,
        verdict=verdict,
        value=found.value,
        low=found.low,
        high=found.high,
    )


def difference_text(found: Estimate, metric: Metric) -> str:
    """A difference with its sign and its interval, one digit finer than the metric is shown."""
    digits = metric.digits + 1
    ends = [end for end in (found.low, found.high) if end is not None]
    value, *interval = (f"{metric.scale * one:+.{digits}f}" for one in (found.value, *ends))
    text = f"{value} [{', '.join(interval)}]" if interval else value
    return text.replace("-", "−")


def _of_length(length: str) -> str:
    return "" if length == ALL else f", {length} utterances"
