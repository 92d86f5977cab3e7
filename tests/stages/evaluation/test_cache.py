"""The score cache survives kills and says when it cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.errors import StageFailure
from stages.evaluation.cache import CACHE_NAME, ScoreCache, score_key


def test_scores_come_back(tmp_path: Path) -> None:
    key = score_key("wer", {"beam": 1}, "ü")
    with ScoreCache(tmp_path) as cache:
        assert cache.get(key) is None
        cache.put(key, {"text": "naïve", "words": 2})
    with ScoreCache(tmp_path) as cache:
        assert cache.get(key) == {"text": "naïve", "words": 2}


def test_nothing_is_made_before_there_is_something_to_keep(tmp_path: Path) -> None:
    with ScoreCache(tmp_path / "out") as cache:
        cache.get("a")
    assert not (tmp_path / "out").exists()


def test_a_line_that_a_kill_cut_costs_only_itself(tmp_path: Path) -> None:
    with ScoreCache(tmp_path) as cache:
        cache.put("a", {"x": 1})
        cache.put("b", {"x": 2})
    path = tmp_path / CACHE_NAME
    path.write_bytes(path.read_bytes()[:-5])
    with ScoreCache(tmp_path) as cache:
        assert cache.get("a") == {"x": 1}
        assert cache.get("b") is None
        cache.put("b", {"x": 3})
    with ScoreCache(tmp_path) as cache:
        assert cache.get("b") == {"x": 3}


def test_without_a_folder_it_lasts_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ScoreCache(None) as cache:
        cache.put("a", {"x": 1})
        assert cache.get("a") == {"x": 1}
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with ScoreCache(tmp_path / "file") as cache, pytest.raises(StageFailure, match="be written"):
        cache.put("a", {"x": 1})
