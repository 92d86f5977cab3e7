"""`soundstorm ablate` from the command line: settings, resuming, differences, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from stages.ablation.timing import TIMES_NAME
from stages.shards.reader import open_rows

Command = Callable[..., Any]

SETTINGS = ("--first-level", 1, "--first-level", 4, "--temperature", 0.5, "--default", "3,1")


@pytest.fixture
def ablate(command: Command, pipeline: SimpleNamespace, tmp_path: Path) -> Command:
    """`ablate(*more)` runs a small ablation into `tmp_path / "a"`."""

    def call(*more: object) -> Any:
        return command(
            "ablate", pipeline.full, "-o", tmp_path / "a", "--model", pipeline.model,
            "--prompt-seconds", "0.3", "--measures", "reconstruction", "--workers", 0,
            "--device", "cpu", *more,
        )  # fmt: skip

    return call


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_setting_is_decoded_judged_and_held_against_the_default(
    ablate: Command, command: Command, pipeline: SimpleNamespace, tmp_path: Path
) -> None:
    outcome = ablate(*SETTINGS)
    assert outcome.code == 0, outcome.err
    assert "| 3-1 (default) |" in outcome.out
    assert "| less 3-1 | time |" in outcome.out
    result = json.loads((tmp_path / "a" / "ablation.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["3-1", "greedy", "4-1", "3-1-t0.5"]
    assert [row["group"] for row in rows.values()] == [
        "default", "first level", "first level", "temperature",
    ]  # fmt: skip
    assert result["utterances"] == 6
    levels = len(rows["greedy"]["iterations"])
    assert rows["4-1"]["passes"] == 4 + levels - 1
    assert rows["greedy"]["temperature"] == 0
    assert rows["3-1"]["differences"] == {}
    for name in ("greedy", "4-1", "3-1-t0.5"):
        found, base = (rows[key]["metrics"]["log_mel_distance"] for key in (name, "3-1"))
        difference = rows[name]["differences"]["log_mel_distance"]
        assert difference["value"] == pytest.approx(found["value"] - base["value"])
        assert difference["low"] <= difference["value"] <= difference["high"]
        assert rows[name]["seconds_per_second"] > 0
    assert set(result["references"]) == {"recordings", "codec"}

    # What a setting's folder holds is what decode makes of the same options.
    alone = command(
        "decode", pipeline.full, "-o", tmp_path / "alone", "--model", pipeline.model,
        "--iterations", "4,1", "--prompt-seconds", "0.3", "--device", "cpu",
    )  # fmt: skip
    assert alone.code == 0
    with open_rows(tmp_path / "alone") as ours, open_rows(tmp_path / "a" / "4-1") as theirs:
        one, other = ({row["id"]: row["acoustic"].tolist() for row in source.rows()}
                      for source in (ours, theirs))  # fmt: skip
    assert one == other


def test_levels_taken_together_and_settings_of_their_own(ablate: Command, tmp_path: Path) -> None:
    options = ("--iterations", "2,1x2", "--setting", "2,1x2 temperature=0.5", "--default", "2,1")
    outcome = ablate(*options, "--limit", 2)
    assert outcome.code == 0, outcome.err
    rows = json.loads((tmp_path / "a" / "ablation.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["2-1", "2-1x2", "2-1x2-t0.5"]
    levels = len(rows[0]["iterations"])
    assert rows[1]["iterations"] == ([2] + [1, 0] * levels)[:levels]
    assert rows[1]["passes"] == 2 + levels // 2


def test_a_rerun_computes_nothing_and_an_interrupted_run_goes_on(
    ablate: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    options = ("--first-level", 1, "--default", "2,1", "--limit", 2)
    assert ablate(*options).code == 0
    before = contents(folder)
    assert ablate(*options).code == 0
    assert contents(folder) == before

    part = folder / "greedy" / "part-00001-of-00002.parquet"
    tokens = pq.read_table(part)
    part.unlink()
    assert ablate(*options).code == 0
    assert pq.read_table(part).equals(tokens)
    changed = {Path(name).name for name, value in contents(folder).items() if before[name] != value}
    assert changed <= {TIMES_NAME, "ablation.json", "table.md"}  # it took another time


def test_a_part_whose_time_is_lost_is_timed_again(ablate: Command, tmp_path: Path) -> None:
    options = ("--first-level", 1, "--default", "2,1", "--limit", 2)
    assert ablate(*options).code == 0
    (tmp_path / "a" / "2-1" / TIMES_NAME).unlink()
    outcome = ablate(*options, "--json")
    assert outcome.code == 0
    rows = json.loads(outcome.out)["rows"]
    assert all(row["seconds_per_second"] > 0 for row in rows)


def test_utterances_no_longer_than_the_prompt_fail_alone(ablate: Command) -> None:
    outcome = ablate("--first-level", 1, "--default", "2,1", "--prompt-seconds", "1.1", "--json")
    assert outcome.code == 1
    assert "no longer than the prompt" in outcome.err
    result = json.loads(outcome.out)
    assert 0 < result["utterances"] < 6
    assert set(result["missing"]) == {"2-1", "greedy"}


def test_where_none_is_longer_than_the_prompt_it_is_said_why(ablate: Command) -> None:
    outcome = ablate("--first-level", 1, "--default", "2,1", "--prompt-seconds", "60")
    assert outcome.code == 2
    reason, _, summary = outcome.err.partition("has none of the")
    assert "no longer than the prompt" in reason
    assert summary


def test_without_a_prompt_and_without_a_batch(ablate: Command, tmp_path: Path) -> None:
    options = ("--first-level", 1, "--default", "2,1", "--prompt-seconds", "0", "--limit", 1)
    outcome = ablate(*options, "--batch-seconds", 9)
    assert outcome.code == 0, outcome.err
    assert "ablate: --batch-seconds 9 is for a GPU" in outcome.err
    with open_rows(tmp_path / "a" / "2-1") as source:
        assert [row["prompt_frames"] for row in source.rows()] == [0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--first-level", 16), "16-1 is the default itself"),
        (("--iterations", "2,x"), "--iterations 2,x is no list of passes"),
        (("--setting", "2,1 heat=1"), "--setting 2,1 heat=1 does not go on"),
        (("--guidance", 2, "--default", "2,1"), "trained without semantic tokens"),
        (("--prompt-seconds", "x"), "--prompt-seconds x is no number"),
        (("--measures", "beauty"), "there is no measure beauty"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    ablate: Command, tmp_path: Path, options: tuple[object, ...], sentence: str
) -> None:
    outcome = ablate(*options)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert not (tmp_path / "a").exists()
