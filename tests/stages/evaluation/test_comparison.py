"""Systems side by side, judged by toy measures on systems made of numbers."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.errors import DataMismatch, RowFailure, StageFailure
from stages.evaluation.cache import CACHE_NAME, ScoreCache
from stages.evaluation.comparison import Comparison, Task, compare, select
from stages.evaluation.judging import default_workers
from stages.evaluation.measure import Clip, Measure, Metric, Scores, Utterance
from stages.evaluation.reconstruction import Reconstruction
from stages.evaluation.systems import System

MakeSystem = Callable[..., Any]


class Level(Measure):
    """The first sample after the prompt."""

    name = "level"
    metrics = (Metric(name="level", title="level", higher_is_better=True),)
    uses_prompt = True

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.scored: list[tuple[str, float]] = []

    def score(self, clip: Clip) -> Scores:
        self.scored.append((clip.utterance.id, clip.prompt_seconds))
        return {"level": float(clip.generated[0])}


class Letters(Measure):
    """How long the text is."""

    name = "letters"
    metrics = (Metric(name="letters", title="letters", higher_is_better=True),)
    uses_text = True

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.calls = 0

    def applies(self, clip: Clip) -> bool:
        return clip.utterance.text is not None

    def score(self, clip: Clip) -> Scores:
        self.calls += 1
        return {"letters": len(clip.utterance.text or "")}


class Difference(Measure):
    """Against the recording."""

    name = "difference"
    metrics = (Metric(name="difference", title="difference", higher_is_better=False),)
    uses_recording = True

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}

    def applies(self, clip: Clip) -> bool:
        return clip.has_recording

    def score(self, clip: Clip) -> Scores:
        assert clip.recording is not None
        if clip.samples[0] > 8:
            raise RowFailure("too loud")
        return {"difference": float(abs(clip.samples[0] - clip.recording[0]))}


def utterances(*ids: str, text: str | None = None) -> dict[str, Utterance]:
    return {row_id: Utterance(id=row_id, text=text) for row_id in ids}


def judge(
    task: Task, measures: list[Measure], folder: Path | None = None, **options: Any
) -> Comparison:
    with ScoreCache(folder) as cache:
        return compare(task, select(task), measures, cache, **options)


def test_every_system_is_judged_on_the_same_utterances(make_system: MakeSystem) -> None:
    recordings = make_system("recordings", {"a": 1.0, "b": 2.0, "c": 3.0})
    system = make_system("mine", {"a": 1.5, "c": 3.0, "unknown": 9.0})
    task = Task(
        utterances=utterances("a", "b", "c"),
        systems=[recordings, system],
        recordings=recordings,
    )
    clips: list[int] = []
    found = judge(task, [Level(), Difference()], advance=clips.append)
    assert [utterance.id for utterance in found.utterances] == ["a", "c"]
    assert found.missing == {"mine": ["b"]}
    assert sum(clips) == 4
    assert found.estimates["recordings"]["level"].value == pytest.approx(2.0)
    assert found.estimates["mine"]["level"].value == pytest.approx(2.25)
    assert found.estimates["mine"]["difference"].value == pytest.approx(0.25)
    assert "difference" not in found.estimates["recordings"]
    assert found.scores["mine"]["a"] == {"level": 1.5, "difference": 0.5}


def test_what_fails_for_one_system_is_left_out_for_all(make_system: MakeSystem) -> None:
    good = make_system("good", {"a": 1.0, "b": 3.0})
    bad = make_system("bad", {"a": 1.0, "b": None})
    task = Task(utterances=utterances("a", "b"), systems=[good, bad], recordings=None)
    found = judge(task, [Level()])
    assert found.failures == [("b", "bad: level: it is broken")]
    assert found.estimates["good"]["level"].value == 1.0
    assert found.estimates["good"]["level"].utterances == 1


def test_one_measure_that_fails_leaves_the_others_alone(make_system: MakeSystem) -> None:
    recordings = make_system("recordings", {"a": 1.0, "b": 1.0})
    loud = make_system("loud", {"a": 9.0, "b": 2.0})
    task = Task(utterances=utterances("a", "b"), systems=[recordings, loud], recordings=recordings)
    found = judge(task, [Difference(), Level()])
    assert found.failures == [("a", "loud: difference: too loud")]
    assert found.estimates["loud"]["difference"].utterances == 1
    assert found.estimates["loud"]["level"].utterances == 2


def test_a_rerun_computes_only_what_is_new(make_system: MakeSystem, tmp_path: Path) -> None:
    values = {"a": 1.0, "b": 2.0}
    first = make_system("first", values)
    task = Task(utterances=utterances("a", "b", text="one"), systems=[first], recordings=None)
    level, letters = Level(), Letters()
    before = judge(task, [level, letters], tmp_path)
    assert len(level.scored) == letters.calls == 2

    again = Task(
        utterances=task.utterances, systems=[make_system("first", values)], recordings=None
    )
    after = judge(again, [level, letters], tmp_path)
    assert len(level.scored) == letters.calls == 2
    assert again.systems[0].loads == 0  # type: ignore[attr-defined]
    assert after.estimates == before.estimates

    other_text = Task(
        utterances=utterances("a", "b", text="three"), systems=[first], recordings=None
    )
    judge(other_text, [level, letters], tmp_path)
    assert len(level.scored) == 2
    assert letters.calls == 4

    changed = make_system("first", values | {"b": 5.0})
    judge(Task(utterances=task.utterances, systems=[changed], recordings=None), [level], tmp_path)
    assert [row_id for row_id, _ in level.scored] == ["a", "b", "b"]


def test_systems_without_a_prompt_of_their_own_are_judged_after_the_others(
    make_system: MakeSystem,
) -> None:
    recordings = make_system("recordings", {"a": 1.0, "b": 1.0})
    prompted = make_system("prompted", {"a": 2.0, "b": 2.0}, {"a": 0.25})
    unprompted = make_system("unprompted", {"a": 3.0, "b": 3.0}, {"a": 0.0, "b": 0.0})
    level = Level()
    systems = [recordings, prompted, unprompted]
    task = Task(utterances=utterances("a"), systems=systems, recordings=recordings)
    judge(task, [level])
    assert level.scored == [("a", 0.25), ("a", 0.25), ("a", 0.0)]
    level.scored.clear()
    task = Task(
        utterances=utterances("b"), systems=systems[:2], recordings=recordings, prompt_seconds=0.5
    )
    judge(task, [level])
    assert level.scored == [("b", 0.5), ("b", 0.5)]
    level.scored.clear()
    task = Task(
        utterances=utterances("b"), systems=systems, recordings=recordings, prompt_seconds=0.5
    )
    judge(task, [level])
    assert level.scored == [("b", 0.5), ("b", 0.5), ("b", 0.0)]


def test_measures_without_inputs_are_skipped_with_the_reason(make_system: MakeSystem) -> None:
    recordings = make_system("recordings", {"a": 1.0})
    task = Task(utterances=utterances("a"), systems=[recordings], recordings=recordings)
    found = judge(task, [Letters(), Difference(), Level()])
    assert found.skipped == {
        "letters": "no utterance has a text",
        "difference": "there is no system to hold against recordings",
    }
    assert [metric.name for metric in found.metrics] == ["level"]


def test_a_measure_that_failed_on_every_clip_did_not_lack_its_inputs(
    make_system: MakeSystem,
) -> None:
    recordings = make_system("recordings", {"a": 1.0})
    loud = make_system("loud", {"a": 9.0})
    broken = make_system("broken", {"a": None}, {"a": 0.5})
    task = Task(utterances=utterances("a"), systems=[recordings, loud], recordings=recordings)
    why = "no clip could be judged: the failures say why"
    assert judge(task, [Difference(), Level()]).skipped == {"difference": why}
    task = Task(utterances=utterances("a"), systems=[broken], recordings=None)
    assert judge(task, [Level(), Difference()]).skipped == {
        "level": why,
        "difference": "there is no system to hold against recordings",
    }


def test_a_limit_takes_its_utterances_from_everywhere(make_system: MakeSystem) -> None:
    ids = [f"{speaker}{number}" for speaker in "abcd" for number in range(5)]
    system = make_system("x", dict.fromkeys(ids, 1.0))
    task = Task(utterances=utterances(*ids), systems=[system], recordings=None, limit=4)
    assert [utterance.id for utterance in select(task).utterances] == ["a0", "b0", "c0", "d0"]


def test_systems_that_share_nothing_are_refused(make_system: MakeSystem) -> None:
    one = make_system("one", {"a": 1.0})
    none = make_system("none", {"x": 1.0})
    other = make_system("other", {"b": 1.0})
    with pytest.raises(DataMismatch, match="none has none of the 2 utterances"):
        select(Task(utterances=utterances("a", "b"), systems=[one, none], recordings=None))
    with pytest.raises(DataMismatch, match="no utterance is in all systems"):
        select(Task(utterances=utterances("a", "b"), systems=[one, other], recordings=None))


def test_lengths_are_estimated_apart_and_all_together(make_system: MakeSystem) -> None:
    seconds = {"a": 5.0, "b": 9.0, "c": 12.0, "d": 45.0, "e": None}
    system = make_system("x", {"a": 1.0, "b": 3.0, "c": 7.0, "d": 9.0, "e": 10.0})
    chosen = {key: Utterance(id=key, seconds=value) for key, value in seconds.items()}
    found = judge(Task(utterances=chosen, systems=[system], recordings=None), [Level()])
    assert found.estimates["x"]["level"].value == pytest.approx(6.0)
    assert {name: group.utterances for name, group in found.lengths.items()} == {
        "short": 2, "mid": 1, "long": 0,
    }  # fmt: skip
    assert found.lengths["short"].estimates["x"]["level"].value == pytest.approx(2.0)
    assert found.lengths["mid"].estimates["x"]["level"].value == pytest.approx(7.0)
    assert found.lengths["long"].estimates == {"x": {}}


def test_without_any_length_there_are_no_groups(make_system: MakeSystem) -> None:
    system = make_system("x", {"a": 1.0})
    task = Task(utterances=utterances("a"), systems=[system], recordings=None)
    assert judge(task, [Level()]).lengths == {}


class Made(System):
    """Sound that a worker process makes, or dies of."""

    def __init__(self, name: str, sounds: dict[str, Any]) -> None:
        self.name, self.ids, self._sounds = name, sounds.keys(), sounds
        self.play = operator.call

    def key(self, row_id: str) -> list[Any]:
        return [self.name, row_id]

    def parcel(self, row_id: str) -> Any:
        return self._sounds[row_id]


def wave(loudness: float) -> Any:
    return partial(np.multiply, np.sin(np.arange(8_000)).astype(np.float32), np.float32(loudness))


def test_a_dead_worker_is_one_sentence_and_what_was_scored_is_kept(tmp_path: Path) -> None:
    recordings = Made("recordings", {name: wave(1.0) for name in "abc"})
    deadly = Made("deadly", {"a": wave(0.5), "b": partial(os._exit, 3), "c": wave(0.5)})
    task = Task(
        utterances=utterances("a", "b", "c"), systems=[recordings, deadly], recordings=recordings
    )
    with pytest.raises(StageFailure, match="a process that judges speech died"):
        judge(task, [Reconstruction()], tmp_path, workers=1)
    (line,) = (tmp_path / CACHE_NAME).read_text().splitlines()
    assert '"si_sdr": 100.0' in line


def test_workers_are_for_much_to_do_without_a_gpu() -> None:
    assert default_workers(1000, 4, "cpu") == 4
    assert default_workers(1000, 64, "cpu") == 8
    assert default_workers(10, 4, "cpu") == 0
    assert default_workers(1000, 4, "cuda:0") == 0
    assert default_workers(1000, 1, "cpu") == 0
