"""Systems side by side: every measure of every utterance of every system, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stages.errors import DataMismatch, RowFailure
from stages.evaluation.cache import ScoreCache, score_key
from stages.evaluation.curves import Curve
from stages.evaluation.judging import Bench, Panel, Request, Verdict
from stages.evaluation.lengths import LengthGroup, by_length
from stages.evaluation.measure import Clip, Measure, Metric, Scores, Utterance
from stages.evaluation.statistics import Estimate, estimates_of
from stages.evaluation.systems import System

Item = TypeVar("Item")

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

    lengths: dict[str, LengthGroup] = field(default_factory=dict)
    """By name of the paper's bins, where any utterance is in one."""

    missing: dict[str, list[str]]
    """Ids that a system lacks; they are left out for all systems."""

    skipped: dict[str, str]
    """Measures by which no clip has a score, with the reason."""

    curves: dict[str, dict[str, Curve]] = field(default_factory=dict)
    """By measure, then system, where a measure has any."""

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
    """The prompt of systems that do not say, where no other system has one for the utterance."""

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
        DataMismatch: if a system has none of the utterances, or several files of one, or if no
            utterance is in all.
    """
    missing = _missing(task)
    absent = {row_id for ids in missing.values() for row_id in ids}
    common = sorted(task.utterances.keys() - absent)
    if not common:
        raise DataMismatch("no utterance is in all systems: there is nothing to compare")
    chosen = [task.utterances[row_id] for row_id in spread(common, task.limit)]
    return Selection(utterances=chosen, missing=missing)


def compare(
    task: Task,
    selection: Selection,
    measures: Sequence[Measure],
    cache: ScoreCache,
    *,
    workers: int = 0,
    advance: Callable[[int], None] = lambda clips: None,
) -> Comparison:
    """Judge every system on the same utterances.

    Args:
        task: what to compare.
        selection: from `select`.
        measures: how; their names differ.
        cache: what is known already; it is added to as soon as something more is known.
        workers: processes that judge; 0 for this one. They change no score.
        advance: told of finished clips, one for each utterance and system.

    Raises:
        DataMismatch: if a measure's model cannot be loaded.
        StageFailure: if a worker dies, or the cache cannot be written to.
    """
    raw: RawScores = {
        measure.name: {system.name: {} for system in task.systems} for measure in measures
    }
    failures: list[tuple[str, str]] = []
    failed: set[str] = set()  # measures
    bench = Bench(
        measures=measures,
        players={system.name: system.play for system in task.systems},
        play_recording=task.recordings.play if task.recordings else None,
    )
    with Panel(bench, workers) as panel:
        for some in _chunks(selection.utterances, panel.at_once):
            plans = [_plan(task, measures, utterance, cache) for utterance in some]
            verdicts = panel.judge([plan.request for plan in plans if plan.request.jobs])
            for plan in plans:
                found: Iterable[Verdict] = next(verdicts) if plan.request.jobs else ()
                for (system, index), verdict in zip(plan.request.jobs, found, strict=True):
                    if isinstance(verdict, RowFailure):
                        reason = f"{system}: {measures[index].name}: {verdict}"
                        failures.append((plan.request.utterance.id, reason))
                        failed.add(measures[index].name)
                    else:
                        cache.put(plan.keys[system, index], verdict)
                        plan.known[system, index] = verdict
                for (system, index), scores in plan.known.items():
                    raw[measures[index].name][system][plan.request.utterance.id] = scores
                advance(len(task.systems))
    return _gather(task, selection, measures, raw, failures, failed)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """One utterance: what is known of it, and what is to be asked. By system and measure."""

    request: Request
    keys: dict[tuple[str, int], str]
    known: dict[tuple[str, int], Scores]


def _plan(
    task: Task, measures: Sequence[Measure], utterance: Utterance, cache: ScoreCache
) -> _Plan:
    recordings = task.recordings
    clips = {system.name: _clip(task, system, utterance) for system in task.systems}
    against = recordings.key(utterance.id) if recordings else None
    keys: dict[tuple[str, int], str] = {}
    for system in task.systems:
        sound = system.key(utterance.id)
        for index, measure in enumerate(measures):
            if measure.applies(clips[system.name]):
                keys[system.name, index] = _key(measure, clips[system.name], sound, against)
    cached = {job: cache.get(key) for job, key in keys.items()}
    jobs = [job for job, scores in cached.items() if scores is None]
    asked = {name for name, _ in jobs}
    request = Request(
        utterance=utterance,
        parcels={
            system.name: system.parcel(utterance.id)
            for system in task.systems
            if system.name in asked
        },
        prompt_seconds={name: clips[name].prompt_seconds for name in asked},
        recording=recordings.parcel(utterance.id)
        if recordings is not None and utterance.id in recordings.ids
        else None,
        against=frozenset(name for name in asked if clips[name].has_recording),
        jobs=jobs,
    )
    known = {job: scores for job, scores in cached.items() if scores is not None}
    return _Plan(request=request, keys=keys, known=known)


def _chunks(utterances: Sequence[Utterance], size: int) -> Iterator[Sequence[Utterance]]:
    return (utterances[start : start + size] for start in range(0, len(utterances), size))


def _missing(task: Task) -> dict[str, list[str]]:
    missing = {}
    for system in task.systems:
        ids = sorted(task.utterances.keys() - set(system.ids))
        twice = next((row_id for row_id in ids if row_id in system.ambiguous), None)
        if twice is not None:
            first, second, *_ = system.ambiguous[twice]
            raise DataMismatch(
                f"{system.name} has two files for the utterance {twice}, {first} and {second}: "
                "remove one, or give a manifest with ids"
            )
        if len(ids) == len(task.utterances):
            raise DataMismatch(
                f"{system.name} has none of the {len(ids)} utterances (the first is "
                f"{ids[0] if ids else 'missing, too'}): rows are matched by id, sound files by "
                "their names"
            )
        if ids:
            missing[system.name] = ids
    return missing


def spread(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most `limit` items, evenly over the list, so that all its speakers have their share."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]


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
    # A system that was decoded without a prompt says nothing of another's.
    said = filter(None, (other.prompt_seconds(row_id) for other in task.systems))
    return max(said, default=task.prompt_seconds)


def _key(measure: Measure, clip: Clip, sound: list[Any], recording: list[Any] | None) -> str:
    return score_key(
        measure.kind,
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
    failed: Collection[str],
) -> Comparison:
    by_id = {utterance.id: utterance for utterance in selection.utterances}
    names = [system.name for system in task.systems]
    scores: dict[str, dict[str, Scores]]
    scores = {name: {row_id: {} for row_id in by_id} for name in names}
    skipped: dict[str, str] = {}
    metrics: list[Metric] = []
    curves: dict[str, dict[str, Curve]] = {}
    for measure in measures:
        judged = {name: found for name, found in raw[measure.name].items() if found}
        if not judged:
            skipped[measure.name] = _why_skipped(measure, tried=measure.name in failed)
            continue
        # A clip that could not be judged leaves the utterance out for every system.
        shared = sorted(set.intersection(*(set(found) for found in judged.values())))
        for name, found in judged.items():
            fair = measure.compare({row_id: found[row_id] for row_id in shared}, by_id)
            for row_id, values in fair.items():
                scores[name][row_id] |= values
            curve = measure.curve(fair)
            if curve is not None:
                curves.setdefault(measure.name, {})[name] = curve
        metrics += measure.metrics
    estimates = estimates_of(metrics, scores, by_id)
    return Comparison(
        systems=names,
        utterances=selection.utterances,
        metrics=[m for m in metrics if any(m.name in found for found in estimates.values())],
        scores=scores,
        estimates=estimates,
        lengths=by_length(metrics, scores, selection.utterances),
        missing=selection.missing,
        skipped=skipped,
        curves=curves,
        failures=failures,
    )


def _why_skipped(measure: Measure, *, tried: bool) -> str:
    if tried:
        return "no clip could be judged: the failures say why"
    if measure.uses_text:
        return "no utterance has a text"
    if measure.uses_recording:
        return "there is no system to hold against recordings"
    if measure.uses_prompt:
        return "no system has a prompt (prompt_frames of decode, or --prompt-seconds)"
    return "no clip could be judged"
