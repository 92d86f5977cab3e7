"""`soundstorm report` from the command line, on what `eval` wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from stages.audio.reading import read_audio

Command = Callable[..., Any]


@pytest.fixture
def judged(command: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`run/eval`: scores of the corpus and of a quieter one, named by relative paths."""
    folder = tmp_path / "run"
    shutil.copytree(corpus, folder / "corpus")
    for path in sorted(corpus.rglob("*/u*")):
        target = (folder / "quiet" / path.relative_to(corpus)).with_suffix(".wav")
        target.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(target, 0.5 * read_audio(str(path), sample_rate=16_000).samples[0], 16_000)
    monkeypatch.chdir(folder)
    outcome = command(
        "eval", "corpus/manifest.tsv", "--system", "quiet=quiet", "--measures", "reconstruction",
        "-o", "eval", "--workers", 0,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    return folder / "eval"


def test_a_page_of_an_evaluation(command: Command, judged: Path, tmp_path: Path) -> None:
    outcome = command("report", judged, "-o", tmp_path / "report", "--samples", 2, "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["notes"] == []
    assert len(result["samples"]) == 2
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("<audio") == 4
    assert "None of the paper&#39;s metrics was measured" in page
    value = json.loads((tmp_path / "report" / "report.json").read_text())
    assert value["claims"] == []
    assert list(value["figures"]) == ["figure-2", "figure-3", "figure-4"]


def test_all_that_moved_together_is_found_again(
    command: Command, judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = judged.parent.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    outcome = command("report", moved / "eval", "-o", tmp_path / "report", "--samples", 1)
    assert outcome.code == 0, outcome.err
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("<audio") >= 1


def test_what_a_glob_named_is_found_again_where_it_is_and_moved(
    command: Command, judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = command(
        "eval", "corpus/**/u*", "--system", "quiet=quiet/*/*.wav", "--measures", "reconstruction",
        "-o", "globbed", "--workers", 0,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    arguments = ("-o", tmp_path / "report", "--samples", 1, "--json")
    outcome = command("report", "globbed", *arguments)
    assert json.loads(outcome.out)["notes"] == []
    moved = judged.parent.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    outcome = command("report", moved / "globbed", *arguments)
    assert json.loads(outcome.out)["notes"] == []
    assert (tmp_path / "report" / "report.html").read_text().count("<audio") == 2
    shutil.rmtree(moved / "quiet")
    outcome = command("report", moved / "globbed", *arguments)
    assert json.loads(outcome.out)["notes"] == [
        "quiet cannot be heard: quiet/*/*.wav is no longer there."
    ]


def test_sound_that_is_gone_is_a_line_and_no_player(
    command: Command, judged: Path, tmp_path: Path
) -> None:
    shutil.rmtree(judged.parent / "quiet")
    outcome = command("report", judged, "-o", tmp_path / "report", "--samples", 1)
    assert outcome.code == 0
    assert "quiet cannot be heard: quiet is no longer there." in outcome.err
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("<audio") == 1
    assert "quiet cannot be heard: quiet is no longer there." in page


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--ablation", "nowhere"), "nowhere/ablation.json cannot be read"),
        (("--runtime", "eval/scores.json"), "has no `cells`: give runtime.json"),
        (("--mos", "eval/scores.parquet"), "is no JSON: give mos.json"),
        (("--mos", "eval/scores.json"), "has no `krippendorff_alpha`: give mos.json"),
    ],
)
def test_what_is_no_input_is_one_sentence(
    command: Command, judged: Path, tmp_path: Path, options: tuple[str, str], sentence: str
) -> None:
    outcome = command("report", judged, "-o", tmp_path / "report", *options)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "report").exists()


def test_a_folder_without_scores_is_refused(command: Command, tmp_path: Path) -> None:
    outcome = command("report", tmp_path, "-o", tmp_path / "report")
    assert outcome.code == 2
    assert "has no scores.json" in outcome.err
