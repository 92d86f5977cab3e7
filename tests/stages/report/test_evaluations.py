"""What is read back of an evaluation, new and old."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from stages.errors import DataMismatch
from stages.report.evaluations import read_evaluations


def test_systems_are_known_by_how_their_tokens_came_about(evaluation: Path) -> None:
    (read,) = read_evaluations([str(evaluation)])
    found = {one.name: (one.kind, one.method, one.prompted, one.greedy) for one in read.systems}
    assert found == {
        "recordings": ("recordings", None, True, False),
        "codec": ("codec", None, True, False),
        "unprompted": ("generated", "soundstorm", False, False),
        "audiolm": ("generated", "audiolm", True, False),
        "soundstorm": ("generated", "soundstorm", True, False),
        "greedy": ("generated", "soundstorm", True, True),
    }
    assert [one.name for one in read.systems][:3] == ["recordings", "codec", "unprompted"]
    assert read.systems[-1].what == "SoundStorm, greedy"
    assert read.lengths == {"short": 3, "mid": 3}
    assert read.rows["greedy"]["u3"]["length"] == "mid"


def test_a_file_without_sources_or_lengths_is_read_too(evaluation: Path) -> None:
    path = evaluation / "scores.json"
    value = json.loads(path.read_text())
    for name in ("sources", "lengths", "curves"):
        del value[name]
    path.write_text(json.dumps(value))
    (read,) = read_evaluations([str(evaluation)])
    by_name = {one.name: one for one in read.systems}
    assert by_name["audiolm"].method == "audiolm"  # by its name, for want of better
    assert by_name["greedy"].greedy
    assert by_name["soundstorm"].source["paths"] == [{"path": "gone/soundstorm"}]
    assert by_name["soundstorm"].stages == ()
    assert read.lengths == {}


def test_levels_taken_together_are_not_greedy(evaluation: Path) -> None:
    path = evaluation / "scores.json"
    value = json.loads(path.read_text())
    decode = value["sources"]["systems"]["greedy"]["stages"][-1]
    decode["settings"]["iterations"] = [1, 0]
    path.write_text(json.dumps(value))
    (read,) = read_evaluations([str(evaluation)])
    (system,) = [one for one in read.systems if one.name == "greedy"]
    assert system.iterations == [1, 0]
    assert not system.greedy


def test_equal_names_of_two_evaluations_are_told_apart(evaluation: Path) -> None:
    other = evaluation.with_name("other")
    evaluation.rename(other).mkdir(exist_ok=True)
    for name in ("scores.json", "scores.parquet"):
        (evaluation / name).parent.mkdir(exist_ok=True)
        (evaluation / name).write_bytes((other / name).read_bytes())
    read = read_evaluations([str(evaluation), str(other)])
    labels = [one.label for evaluated in read for one in evaluated.systems]
    assert "greedy (eval)" in labels
    assert "greedy (other)" in labels


def test_folders_of_one_name_are_told_apart_by_those_above(
    evaluation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(evaluation)
    folders = [".", *(str(tmp_path / name) for name in ("b/x/eval", "b/made/eval", "c"))]
    for folder in folders[1:]:
        shutil.copytree(evaluation, folder)
    read = read_evaluations(folders)
    above = f"{tmp_path.name}/made/eval"
    assert [one.name for one in read] == [above, "x/eval", "b/made/eval", "c"]
    labels = [one.label for evaluated in read for one in evaluated.systems]
    assert len(set(labels)) == len(labels)
    assert f"greedy ({above})" in labels
    assert read_evaluations(["."])[0].name == "eval"


def test_an_evaluation_that_is_given_twice_is_refused(evaluation: Path) -> None:
    with pytest.raises(DataMismatch, match="eval is given twice: give each evaluation once"):
        read_evaluations([str(evaluation.parent / "codec" / ".." / "eval"), str(evaluation)])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "has no scores.json: give a folder that soundstorm eval -o wrote"),
        ("{", "is no JSON"),
        ('{"masked_tokens": {}}', "has no systems"),
    ],
)
def test_what_is_no_evaluation_is_refused(tmp_path: Path, text: str | None, sentence: str) -> None:
    if text is not None:
        (tmp_path / "scores.json").write_text(text)
    with pytest.raises(DataMismatch, match=sentence):
        read_evaluations([str(tmp_path)])
