"""Times of decoding: kept, added up, and never of two machines at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.ablation.timing import TIMES_NAME, BatchTime, Times

HERE, THERE = {"processor": "here"}, {"processor": "there"}


def test_times_are_kept_beside_what_they_are_of(tmp_path: Path) -> None:
    times = Times(tmp_path)
    assert times.seconds_per_second() is None
    batches = [BatchTime(seconds=1.0, audio=2.0), BatchTime(seconds=5.0, audio=4.0)]
    times.put("part", "f", batches, HERE)
    again = Times(tmp_path)
    found = again.seconds_per_second()
    assert found is not None
    assert found.value == pytest.approx(1.0)  # 6 s for 6 s, not the mean of 0.5 and 1.25
    assert (found.low, found.high) == (0.5, 1.25)
    assert again.has("part", "f")
    assert not again.has("part", "of another input")
    assert again.machines == [HERE]
    again.put("other", "f", batches, THERE)
    assert again.machines == [HERE, THERE]


def test_a_ratio_is_of_the_same_batches_and_heeds_no_hiccup(tmp_path: Path) -> None:
    times = {name: Times(tmp_path / name) for name in ("ours", "base")}
    for part, ours in (("a", [2.0, 2.0]), ("b", [50.0])):
        times["ours"].put(part, "f", [BatchTime(seconds=one, audio=1.0) for one in ours], HERE)
        base = [BatchTime(seconds=1.0, audio=1.0) for _ in ours]
        times["base"].put(part, "f", base, HERE)
    assert times["ours"].ratio_to(times["base"]) == 2.0
    times["base"].put("c", "f", [BatchTime(seconds=1.0, audio=1.0)], HERE)
    assert times["ours"].ratio_to(times["base"]) is None


def test_a_damaged_file_is_measured_again(tmp_path: Path) -> None:
    (tmp_path / TIMES_NAME).write_text("{")
    assert not Times(tmp_path).has("part", "f")
