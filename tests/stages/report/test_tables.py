"""Table 1: what is in which cell."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from stages.report.columns import columns
from stages.report.evaluations import read_evaluations
from stages.report.tables import table_1


def test_metrics_by_length_with_prompts_apart(evaluation: Path) -> None:
    table = table_1(read_evaluations([str(evaluation)]))
    assert [metric.name for metric in table.metrics] == ["wer", "dnsmos_overall", "consistency"]
    assert table.lengths == ["short", "mid"]
    groups = {group["title"]: group["rows"] for group in table.groups}
    assert list(groups) == ["", "Without a speaker prompt", "With a speaker prompt"]
    assert [row["label"] for row in groups[""]] == ["recordings", "codec"]
    (unprompted,) = groups["Without a speaker prompt"]
    assert unprompted["cells"][-1] is None  # it has no prompt to be consistent with
    prompted = {row["label"]: row["cells"] for row in groups["With a speaker prompt"]}
    assert prompted["audiolm"][0].text == "20.0"
    assert prompted["audiolm"][0].interval == "20.0 to 20.0"
    best = {name: [cell.best for cell in cells] for name, cells in prompted.items()}
    assert best == {"audiolm": [False] * 6, "greedy": [False] * 6, "soundstorm": [True] * 6}
    values = table.to_json()["groups"][2]["systems"]["soundstorm"]["wer"]
    assert values["mid"]["value"] == pytest.approx(0.1)


def test_utterances_of_no_length_have_a_column_of_all(evaluation: Path) -> None:
    path = evaluation / "scores.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | {"utterances": 7}))
    assert table_1(read_evaluations([str(evaluation)])).counts == {"short": 3, "mid": 3, "all": 7}
    del value["lengths"]
    path.write_text(json.dumps(value))
    assert table_1(read_evaluations([str(evaluation)])).lengths == ["all"]


def test_each_judge_of_words_has_a_column() -> None:
    names = ["cer_a", "wer_b", "wer_a", "dnsmos_speech", "distillmos"]
    found = columns({name: {} for name in names})
    assert [metric.name for metric in found] == ["wer_a", "wer_b", "cer_a", "distillmos"]
    assert found[0].ratio == ("word_errors_a", "words_a")
    assert found[0].title == "WER (a)"


def test_a_rate_against_transcripts_is_another_than_one_against_texts(evaluation: Path) -> None:
    other = shutil.copytree(evaluation, evaluation.with_name("other"))
    value = json.loads((other / "scores.json").read_text())
    value["metrics"]["wer"]["reference"] = "transcript"
    (other / "scores.json").write_text(json.dumps(value))
    table = table_1(read_evaluations([str(evaluation), str(other)]))
    assert [metric.title for metric in table.metrics[:2]] == ["WER", "WER (to transcripts)"]
    assert table.to_json()["metrics"][:2] == ["wer", "wer (to transcripts)"]
    rows = {row["label"]: row for row in table.groups[2]["rows"]}
    best = {
        name: [cell and cell.best for cell in rows[name]["cells"][:4]]
        for name in ("soundstorm (eval)", "soundstorm (other)", "audiolm (other)")
    }
    assert best == {
        "soundstorm (eval)": [True, True, None, None],
        "soundstorm (other)": [None, None, True, True],
        "audiolm (other)": [None, None, False, False],
    }


def test_a_judge_s_name_and_transcripts_are_in_one_bracket() -> None:
    (found,) = columns({"wer_a": {"reference": "transcript"}})
    assert found.title == "WER (a, to transcripts)"
    assert columns({"wer_a": {"reference": "text"}}) == columns({"wer_a": {}})
