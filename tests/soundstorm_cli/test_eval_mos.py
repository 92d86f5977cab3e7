"""`soundstorm eval mos` from the command line, beside `soundstorm eval INPUT`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nltk", reason="agreement needs the eval extra")


Command = Callable[..., Any]


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    """Three raters, four samples, two systems; `good` is a point above `fair`."""
    lines = ["rater,sample,system,score"]
    for rater in range(3):
        for sample in range(4):
            lines.append(f"r{rater},s{sample},good,{3 + (rater + sample) % 3}")
            lines.append(f"r{rater},s{sample},fair,{2 + (rater + sample) % 3}")
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_table_and_files(command: Command, ratings: Path, tmp_path: Path) -> None:
    outcome = command("eval", "mos", ratings, "-o", tmp_path / "mos")
    assert outcome.code == 0
    table = outcome.out
    assert "| good | 4.00 [" in table
    assert "| good - fair | +1.00 | 4 | 0.125 | 0.125 |" in table
    assert "| agreement | " in table
    assert (tmp_path / "mos" / "table.md").read_text() == table
    found = json.loads((tmp_path / "mos" / "mos.json").read_text())
    assert found["ratings"] == 24
    assert found["systems"]["fair"]["mos"] == 3.0
    assert found["systems"]["fair"]["low"] < 3.0 < found["systems"]["fair"]["high"]
    (pair,) = found["pairs"]
    assert (pair["systems"], pair["difference"]) == (["good", "fair"], 1.0)

    before = {path.name: path.read_bytes() for path in (tmp_path / "mos").iterdir()}
    outcome = command("eval", "mos", ratings, "-o", tmp_path / "mos", "--json", "--quiet")
    assert json.loads(outcome.out)["output"] == str(tmp_path / "mos")
    assert {path.name: path.read_bytes() for path in (tmp_path / "mos").iterdir()} == before


def test_a_bad_row_is_one_sentence(command: Command, ratings: Path) -> None:
    ratings.write_text(ratings.read_text() + "r0,s9,good,7\n")
    outcome = command("eval", "mos", ratings)
    assert outcome.code == 2
    assert outcome.err == (f"soundstorm: {ratings} line 26: the score 7 is no number from 1 to 5\n")


def test_both_commands_have_their_own_help(command: Command) -> None:
    everything, ours, theirs = (
        command(*words, "--help").out for words in ([], ["eval", "mos"], ["eval"])
    )
    assert "eval mos" in everything
    assert "RATINGS" in ours
    assert "--system" not in ours
    assert "--system" in theirs
    assert "eval mos" in theirs


def test_a_folder_called_mos_can_be_judged(
    command: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(corpus / "s0", tmp_path / "mos")
    monkeypatch.chdir(tmp_path)
    outcome = command("eval", "./mos", "--measures", "reconstruction", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["utterances"] == 3
