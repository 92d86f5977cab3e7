"""Systems side by side: every measure of every utterance of every system, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.errors import DataMismatch, RowFailure
from stages.evaluation.cache import ScoreCache, score_key
from stages.evaluation.measure import Clip, Measure, Metric, Scores, Utterance
from stages.evaluation.statistics import Estimate, estimate, has_metric
from stages.evaluation.systems import System

RawScores = dict[str, dict[str, dict[str, Scores]]]
"""By measure, system and utterance."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Scores by system and utterance, and each system's metrics."""

    systems: list[str]

    utterances: list[Utterance]
    """What every system speaks, sorted by id."""

    metrics: list[Metric]
    """Those that at least one system has."""

    scores: dict[str, dict[str, Scores]]
    """By system, then id."""

    estimates: dict[str, dict[str, Estimate]]
    """By system, then metric; over the utterances for which all systems have the metric."""

    missing: dict[str, list[str]]
    """Ids that a system lacks; they are left out for all systems."""

    skipped: dict[str, str]
    """Measures that no clip had the inputs for, with the reason."""

    failures: list[tuple[str, str]] = field(default_factory=list)
    """Id and reason of each clip that could not be judged."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to compare."""

    utterances: Mapping[str, Utterance]
    """By id: all that could be compared."""

    systems: Sequence[System]

    recordings: System | None
    """The recordings, to measure reconstruction against; one of `systems` or not."""

    prompt_seconds: float = 0.0
    """The prompt of systems that do not say, when no other system says it for the utterance."""

    limit: int | None = None
    """Judge only so many utterances, spread over the sorted ids."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The utterances to judge."""

    utterances: list[Utterance]
    """Sorted by id; every system has them all."""

    missing: dict[str, list[str]]
    """Ids that a system lacks."""


def select(task: Task) -> Selection:
    """Choose what every system speaks, and what is therefore left out.

    Raises:
        DataMismatch: if a system has none of the utterances, or no utterance is in all.
    """
    missing = _missing(task)
    absent = {row_id for ids in missing.values() for row_id in ids}
    common = sorted(task.utterances.keys() - absent)
    if not common:
        raise DataMismatch("no utterance is in all systems: there is nothing to compare")
    chosen = [task.utterances[row_id] for row_id in _spread(common, task.limit)]
    return Selection(utterances=chosen, missing=missing)


def compare(
    task: Task,
    selection: Selection,
    measures: Sequence[Measure],
    cache: ScoreCache,
    *,
    advance: Callable[[int], None] = lambda clips: None,
) -> Comparison:
    """Judge every system on the same utterances.

    Args:
        task: what to compare.
        selection: from `select`.
        measures: how.
        cache: what is known already; it is added to.
        advance: told of each finished clip, one for each utterance and system.
    """
    raw: RawScores = {
        measure.name: {system.name: {} for system in task.systems} for measure in measures
    }
    failures: list[tuple[str, str]] = []
    for utterance in selection.utterances:
        against = task.recordings.key(utterance.id) if task.recordings else None
        for system in task.systems:
            clip = _clip(task, system, utterance)
            sound = system.key(utterance.id)
            for measure in measures:
                if not measure.applies(clip):
                    continue
                key = _key(measure, clip, sound, against)
                try:
                    scores = cache.get(key)
                    if scores is None:
                        scores = measure.score(clip)
                        cache.put(key, scores)
                    raw[measure.name][system.name][utterance.id] = scores
                except RowFailure as failure:
                    failures.append((utterance.id, f"{system.name}: {measure.name}: {failure}"))
            advance(1)
    return _gather(task, selection, measures, raw, failures)


def _missing(task: Task) -> dict[str, list[str]]:
    missing = {}
    for system in task.systems:
        ids = sorted(task.utterances.keys() - set(system.ids))
        if len(ids) == len(task.utterances):
            raise DataMismatch(
                f"{system.name} has none of the {len(ids)} utterances (the first is "
                f"{ids[0] if ids else 'missing, too'}): rows are matched by id, sound files by "
                "their names"
            )
        if ids:
            missing[system.name] = ids
    return missing


def _spread(ids: Sequence[str], limit: int | None) -> list[str]:
    """At most `limit` ids, evenly over the list, so that all its speakers have their share."""
    if limit is None or limit >= len(ids):
        return list(ids)
    return [ids[index * len(ids) // limit] for index in range(limit)]


def _clip(task: Task, system: System, utterance: Utterance) -> Clip:
    recordings = task.recordings
    load_recording = None
    if recordings is not None and recordings is not system and utterance.id in recordings.ids:

        def load_recording() -> Any:
            return recordings.load(utterance.id)

    return Clip(
        utterance,
        lambda: system.load(utterance.id),
        prompt_seconds=_prompt_seconds(task, system, utterance.id),
        load_recording=load_recording,
    )


def _prompt_seconds(task: Task, system: System, row_id: str) -> float:
    """A system's own prompt, or the longest that any other was given for the same utterance.

    So recordings and codecs are judged on the same stretch as what was generated.
    """
    own = system.prompt_seconds(row_id)
    if own is not None:
        return own
    said = [other.prompt_seconds(row_id) for other in task.systems]
    return max((seconds for seconds in said if seconds is not None), default=task.prompt_seconds)


def _key(measure: Measure, clip: Clip, sound: list[Any], recording: list[Any] | None) -> str:
    return score_key(
        measure.name,
        measure.settings,
        sound,
        clip.utterance.text if measure.uses_text else None,
        clip.prompt_seconds if measure.uses_prompt else None,
        recording if measure.uses_recording else None,
    )


def _gather(
    task: Task,
    selection: Selection,
    measures: Sequence[Measure],
    raw: RawScores,
    failures: list[tuple[str, str]],
) -> Comparison:
    by_id = {utterance.id: utterance for utterance in selection.utterances}
    names = [system.name for system in task.systems]
    scores: dict[str, dict[str, Scores]]
    scores = {name: {row_id: {} for row_id in by_id} for name in names}
    estimates: dict[str, dict[str, Estimate]] = {name: {} for name in names}
    skipped: dict[str, str] = {}
    metrics: list[Metric] = []
    for measure in measures:
        judged = {name: found for name, found in raw[measure.name].items() if found}
        if not judged:
            skipped[measure.name] = _why_skipped(measure)
            continue
        # A clip that could not be judged leaves the utterance out for every system.
        shared = sorted(set.intersection(*(set(found) for found in judged.values())))
        for name, found in judged.items():
            fair = measure.compare({row_id: found[row_id] for row_id in shared}, by_id)
            for row_id, values in fair.items():
                scores[name][row_id] |= values
        for metric in measure.metrics:
            for name in judged:
                having = [scores[name][row_id] for row_id in shared]
                having = [score for score in having if has_metric(score, metric)]
                value = estimate(metric, having)
                if value is not None:
                    estimates[name][metric.name] = value
            if any(metric.name in estimates[name] for name in names):
                metrics.append(metric)
    return Comparison(
        systems=names,
        utterances=selection.utterances,
        metrics=metrics,
        scores=scores,
        estimates=estimates,
        missing=selection.missing,
        skipped=skipped,
        failures=failures,
    )


def _why_skipped(measure: Measure) -> str:
    if measure.uses_text:
        return "no utterance has a text"
    if measure.uses_recording:
        return "there is no system to hold against recordings"
    if measure.uses_prompt:
        return "no system has a prompt (prompt_frames of decode, or --prompt-seconds)"
    return "no clip could be judged"
