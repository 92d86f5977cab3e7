"""Reports say what was found, the same way each time."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from stages.evaluation.comparison import Comparison
from stages.evaluation.lengths import LengthGroup
from stages.evaluation.masked_tokens import MaskedScore, MaskedTokenScores
from stages.evaluation.measure import Metric, Utterance
from stages.evaluation.report import document, grids_of, markdown, rich_tables, write_report
from stages.evaluation.statistics import Estimate


def example() -> tuple[Comparison, MaskedTokenScores]:
    rate = Metric(name="wer", title="WER %", higher_is_better=False, scale=100, digits=1)
    hidden = Metric(name="sig", title="SIG", higher_is_better=True, in_table=False)
    known = Estimate(value=0.125, low=0.1, high=0.15, utterances=2)
    comparison = Comparison(
        systems=["recordings", "mine"],
        utterances=[Utterance(id="a", speaker="s", seconds=5.0), Utterance(id="b")],
        metrics=[rate, hidden],
        scores={
            "recordings": {"a": {"words": 3}, "b": {}},
            "mine": {"a": {"words": 4, "hypothesis": "x"}, "b": {}},
        },
        estimates={"recordings": {"wer": known}, "mine": {"sig": known}},
        lengths={
            "short": LengthGroup(
                utterances=1, estimates={"recordings": {"wer": known}, "mine": {}}
            ),
            "mid": LengthGroup(utterances=0, estimates={"recordings": {}, "mine": {}}),
        },
        missing={"mine": ["c"]},
        skipped={"voice": "no system has a prompt"},
        failures=[("b", "mine: wer: bad")],
    )
    single = Estimate(value=2.0, low=None, high=None, utterances=1)
    masked = MaskedTokenScores(
        model="runs/a",
        scores=[MaskedScore(id="a", level=1, ratio=0.5, tokens=4, loss=8.0, correct=1)],
        loss={"all": single},
        accuracy={},
    )
    return comparison, masked


def test_markdown_shows_values_with_their_intervals() -> None:
    assert markdown(grids_of(*example())) == (
        "|  | WER % ↓ |\n"
        "|---|---:|\n"
        "| recordings | 12.5 [10.0, 15.0] |\n"
        "| mine | – |\n"
        "| utterances | 2 |\n"
        "\n"
        "| short 4-10 s, mid 10-20 s, long 20-30 s | WER % ↓ |\n"
        "|---|---:|\n"
        "| short · recordings | 12.5 [10.0, 15.0] |\n"
        "| short · mine | – |\n"
        "| short · utterances | 2 |\n"
        "\n"
        "| masked tokens | loss, nats ↓ | accuracy % ↑ |\n"
        "|---|---:|---:|\n"
        "| all | 2.000 | – |\n"
    )


def test_a_bar_in_a_name_ends_no_cell() -> None:
    grid = (["", "MOS ↑"], [["a|b", "4.00\n[3.90, 4.10]"]])
    assert markdown([grid]).splitlines()[2] == r"| a\|b | 4.00 [3.90, 4.10] |"


def test_terminal_tables_have_the_same_cells() -> None:
    first, by_length, second = rich_tables(grids_of(*example()))
    assert [str(column.header) for column in first.columns] == ["", "WER % ↓"]
    assert first.row_count == by_length.row_count == 3
    assert second.row_count == 1


def test_files_hold_everything_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    comparison, masked = example()
    value = document(comparison, masked, settings={"inputs": ["tokens"]}, skipped={"wer": "x"})
    contents = []
    for name in ("one", "two"):
        folder = tmp_path / name
        write_report(folder, value, comparison, masked)
        contents.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        "masked-tokens.parquet", "scores.json", "scores.parquet", "table.md",
    }  # fmt: skip
    scores = json.loads(contents[0]["scores.json"])
    assert scores["systems"]["recordings"]["wer"]["value"] == 0.125
    assert scores["skipped"] == {"wer": "x", "voice": "no system has a prompt"}
    assert scores["missing"] == {"mine": ["c"]}
    assert scores["failed"] == 1
    assert scores["lengths"]["short"]["systems"]["recordings"]["wer"]["value"] == 0.125
    assert scores["lengths"]["mid"] == {"utterances": 0, "systems": {"recordings": {}, "mine": {}}}
    assert scores["masked_tokens"]["loss"]["all"]["value"] == 2.0
    rows = pq.read_table(tmp_path / "one" / "scores.parquet").to_pylist()
    assert [(row["id"], row["system"], row["words"]) for row in rows] == [
        ("a", "recordings", 3), ("a", "mine", 4), ("b", "recordings", None), ("b", "mine", None),
    ]  # fmt: skip
    assert [(row["seconds"], row["length"]) for row in rows[1:3]] == [(5.0, "short"), (None, None)]
