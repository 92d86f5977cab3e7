"""The pitch of a training set: kept file by file, and gone on with after whatever."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stages.training.pitch_store
from stages.errors import StageFailure
from stages.training.pitch_store import LENGTHS_NAME, PITCH_NAME, PitchStore, build_pitch_store


def build(corpus: Path, folder: Path, told: list[str], *more: str) -> PitchStore:
    paths = [str(corpus / f"s0/u{n}") + end for n, end in enumerate((".wav", ".flac", ".ogg"))]
    return build_pitch_store(
        [*paths, *more], folder, sample_rate=16_000, hop=80, lowest=60, highest=500, workers=2,
        warn=told.append,
    )  # fmt: skip


def test_it_is_tracked_once_and_none_where_a_file_is_none(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "none.wav").write_bytes(b"RIFF")
    told: list[str] = []
    store = build(corpus, tmp_path / "store", told, str(tmp_path / "none.wav"))
    again = build(corpus, tmp_path / "store", told, str(tmp_path / "none.wav"))
    assert len(told) == 1
    np.testing.assert_array_equal(store.pitch, again.pitch)
    assert len(store.slice(3, 0, 1_600)) == 0
    assert len(store.slice(0, 160, 1_600)) == 20
    np.testing.assert_array_equal(store.slice(0, 160, 1_600), store.pitch[2:22])


@pytest.mark.parametrize("torn", [0, 3])
def test_a_killed_run_goes_on_with_the_files_that_are_left(
    corpus: Path, tmp_path: Path, torn: int
) -> None:
    told: list[str] = []
    whole = build(corpus, tmp_path / "whole", told)
    folder = tmp_path / "killed"
    folder.mkdir()
    one = int(whole.offsets[1])
    (folder / PITCH_NAME).write_bytes(whole.pitch[: one + 7].tobytes() + b"x" * torn)
    (folder / LENGTHS_NAME).write_bytes(np.int64(one).tobytes() + b"x" * torn)
    store = build(corpus, folder, told)
    assert [text.split(", ")[0] for text in told] == [
        "tracking the pitch of 3 recordings",
        "tracking the pitch of 2 recordings",
    ]
    np.testing.assert_array_equal(store.pitch, whole.pitch)
    np.testing.assert_array_equal(store.offsets, whole.offsets)


def test_without_pyworld_nothing_is_begun(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(StageFailure, match="needs pyworld"):
        build(corpus, tmp_path / "store", [])


@pytest.mark.parametrize(("asked", "started"), [(0, 1), (1, 1), (3, 3)])
def test_as_many_processes_track_as_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int, started: int
) -> None:
    teams: list[int] = []

    class Team:
        def map(self, paths: list[str], *, workers: int) -> Iterator[tuple[int, Any]]:
            teams.append(workers)
            yield from enumerate(np.ones(2, np.float32) for _ in paths)

        def end(self) -> None:
            pass

    monkeypatch.setattr(stages.training.pitch_store, "tracking_team", lambda *a, **more: Team())
    store = build_pitch_store(
        ["a", "b"], tmp_path, sample_rate=16_000, hop=80, lowest=60, highest=500, workers=asked,
        warn=lambda text: None,
    )  # fmt: skip
    assert teams == [started]
    assert store.offsets.tolist() == [0, 2, 4]
