"""Verdicts on the paper's claims: computed, open where little is known, absent where nothing is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.evaluation.statistics import Estimate
from stages.report.claims import Verdict, better, claims, no_better
from stages.report.evaluations import read_evaluations


def change(evaluation: Path, system: str, column: str, values: list[float]) -> None:
    path = evaluation / "scores.parquet"
    rows = pq.read_table(path).to_pylist()
    ours = [row for row in rows if row["system"] == system]
    for row, value in zip(ours, values, strict=True):
        row[column] = value
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_claims_that_the_scores_support(evaluation: Path, ablation: dict[str, Any]) -> None:
    found = claims(read_evaluations([str(evaluation)]), ablation)
    assert [claim.statement.split(",")[0] for claim in found] == [
        "SoundStorm is more intelligible than AudioLM: its WER is lower.",
        "SoundStorm's acoustic consistency is closer to the recordings' than AudioLM's.",
        "16 iterations in the first level sound better than greedy decoding.",
        "More iterations",
    ]
    wer, consistency, greedy, more = (claim.findings for claim in found)
    assert [one.what for one in wer] == [
        "WER, %: soundstorm less audiolm",
        "WER, %: soundstorm less audiolm, short utterances",
        "WER, %: soundstorm less audiolm, mid utterances",
    ]
    assert wer[0].value == pytest.approx(-0.1)
    assert wer[0].difference == "−10.00 [−10.00, −10.00]"
    assert consistency[0].value == pytest.approx(0.05 - 0.15, abs=0.02)
    for findings in (wer, consistency, greedy):
        assert {one.verdict for one in findings} == {"supports it"}
    # From the evaluation, prompted alike, and from the ablation.
    assert [one.what for one in greedy] == [
        "Audio quality (DNSMOS): soundstorm less greedy",
        "Audio quality (DNSMOS): 16-1 less greedy",
    ]
    assert greedy[1].value == pytest.approx(0.35)
    assert [(one.what.split(": ")[1], one.verdict) for one in more] == [
        ("32-1 less 16-1", "supports it"),
        ("16 less 16-1", "contradicts it"),  # it gains 0.35 to 0.45
    ]


def test_words_held_against_transcripts_are_called_so(evaluation: Path) -> None:
    path = evaluation / "scores.json"
    scores = json.loads(path.read_text())
    scores["metrics"]["wer"]["reference"] = "transcript"
    path.write_text(json.dumps(scores))
    wer, *_ = claims(read_evaluations([str(evaluation)]), None)
    assert wer.findings[0].what == "WER (to transcripts), %: soundstorm less audiolm"


def test_levels_taken_together_are_not_the_papers_greedy_decoding(
    evaluation: Path, ablation: dict[str, Any]
) -> None:
    read = read_evaluations([str(evaluation)])
    before = claims(read, ablation)
    (greedy,) = [row for row in ablation["rows"] if row["name"] == "greedy"]
    ablation["rows"].append(greedy | {"name": "1x2", "iterations": [1, 0], "passes": 1})
    assert claims(read, ablation) == before


@pytest.mark.parametrize(
    ("system", "key", "value"),
    [
        ("soundstorm", "temperature", 0.8),
        ("soundstorm", "iterations", [16, 16]),
        ("soundstorm", "iterations", [16]),  # fewer levels
        ("soundstorm", "guidance", 2.0),
        ("greedy", "guidance", 2.0),
        ("greedy", "precision", "int8"),
        ("greedy", "models", {"soundstorm": "e" * 64}),
    ],
)
def test_greedy_decoding_is_of_the_same_model_in_the_same_way(
    evaluation: Path, system: str, key: str, value: object
) -> None:
    path = evaluation / "scores.json"
    scores = json.loads(path.read_text())
    record = scores["sources"]["systems"][system]["stages"][-1]
    (record if key == "models" else record["settings"])[key] = value
    path.write_text(json.dumps(scores))
    found = claims(read_evaluations([str(evaluation)]), None)
    assert not [claim for claim in found if claim.statement.startswith("16 iterations")]


def test_guided_decoding_is_held_against_guided(evaluation: Path) -> None:
    path = evaluation / "scores.json"
    scores = json.loads(path.read_text())
    for name in ("soundstorm", "greedy"):
        scores["sources"]["systems"][name]["stages"][-1]["settings"]["guidance"] = 2.0
    path.write_text(json.dumps(scores))
    *_, greedy = claims(read_evaluations([str(evaluation)]), None)
    assert [one.what.split(": ")[1] for one in greedy.findings] == ["soundstorm less greedy"]


def test_an_ablation_of_more_passes_in_further_levels_says_nothing_of_the_first(
    evaluation: Path, ablation: dict[str, Any]
) -> None:
    (default,) = [row for row in ablation["rows"] if row["default"]]
    default["iterations"] = [16, 16]
    (greedy,) = [
        claim
        for claim in claims(read_evaluations([str(evaluation)]), ablation)
        if claim.statement.startswith("16 iterations")
    ]
    assert [one.what.split(": ")[1] for one in greedy.findings] == ["soundstorm less greedy"]


def test_claims_that_the_scores_contradict_or_leave_open(evaluation: Path) -> None:
    change(evaluation, "soundstorm", "word_errors", [9, 9, 9, 0, 9, 4])
    change(evaluation, "soundstorm", "dnsmos_overall", [1.0, 5.0, 3.0, 1.0, 5.0, 3.0])
    change(evaluation, "soundstorm", "consistency", [0.1] * 6)
    found = claims(read_evaluations([str(evaluation)]), None)
    wer, consistency, greedy = (claim.findings for claim in found)
    assert [one.verdict for one in wer] == ["cannot tell", "contradicts it", "cannot tell"]
    assert {one.verdict for one in consistency} == {"contradicts it"}
    assert [one.verdict for one in greedy] == ["cannot tell"]


def test_a_claim_on_absent_systems_is_not_made(evaluation: Path) -> None:
    path = evaluation / "scores.json"
    path.write_text(path.read_text().replace('"audiolm"', '"other"'))
    found = claims(read_evaluations([str(evaluation)]), None)
    assert [claim.statement[:13] for claim in found] == ["16 iterations"]


@pytest.mark.parametrize(
    ("low", "high", "gain", "none"),
    [
        (0.01, 0.05, "supports it", "contradicts it"),
        (-0.02, 0.09, "cannot tell", "supports it"),
        (-0.02, 0.11, "cannot tell", "cannot tell"),
        (-0.2, -0.1, "contradicts it", "supports it"),
        (None, None, "cannot tell", "cannot tell"),
    ],
)
def test_verdicts(low: float | None, high: float | None, gain: Verdict, none: Verdict) -> None:
    found = Estimate(value=0.0, low=low, high=high, utterances=9)
    assert better(found) == gain
    assert no_better(found) == none
