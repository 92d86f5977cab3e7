"""`soundstorm bench` from the command line: files, tables, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.speed import bench as module
from stages.speed.measured import Result

Command = Callable[..., Any]

SMALL = (
    "--presets", "mini", "--seconds", "0.2,0.4", "--batches", 1, "--repeats", 1, "--device", "cpu",
    "--threads", 1,
)  # fmt: skip


def test_two_lengths_of_a_decoding(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    outcome = command(
        "bench", "decode", *SMALL, "--levels", 2, "--iterations", "1", "-o", tmp_path / "new" / "b"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("bench: decode mini, 0.") == 2
    assert outcome.out.count("| mini | float32 | 2 | 1 |") == 2
    assert outcome.out.count("| 2 (1) |") == 2
    names = sorted(path.name for path in (tmp_path / "new" / "b").iterdir())
    assert names == ["bench.json", "bench.md", "growth.png", "roofline.png"]
    assert (tmp_path / "new" / "b" / "bench.md").read_text() == outcome.out
    value = json.loads((tmp_path / "new" / "b" / "bench.json").read_text())
    assert value["machine"]["threads"] == 1
    assert value["roofs"]["flops_per_second"]["float32"] > 0
    assert [result["cell"]["seconds"] for result in value["results"]] == [0.2, 0.4]
    assert all(result["measured"]["seconds"] > 0 for result in value["results"])


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is asked of processes, none of which is started: every cell breaks off."""
    asked: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        if "roofs" in request:
            machine = {"processor": "abacus", "threads": 1, "torch": "2"}
            return {
                "machine": machine, "flops_per_second": {"float32": 1e9}, "bytes_per_second": 1e9,
            }  # fmt: skip
        cell = module.Cell.from_json(request["cell"])
        return {"results": [Result(cell=cell, why_not="it broke off", failed=True).to_json()]}

    monkeypatch.setattr(module, "ask_process", answer)
    return asked


def test_the_whole_goes_to_standard_output_as_json(
    command: Command, at_once: list[dict[str, Any]]
) -> None:
    outcome = command("bench", "vocode", *SMALL, "--json", "--quiet")
    value = json.loads(outcome.out)
    assert [result["why_not"] for result in value["results"]] == ["it broke off"] * 4
    assert outcome.err == ""
    assert outcome.code == 1
    assert at_once[1]["threads"] == 1


@pytest.mark.parametrize("below", ["", "b/c"])
def test_a_folder_that_cannot_be_is_refused_before_anything_is_measured(
    below: str, command: Command, at_once: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / below
    outcome = command("bench", "vocode", *SMALL, "-o", target)
    assert outcome.code == 1
    assert outcome.err.startswith(f"soundstorm: {target} cannot be written (")
    assert outcome.err.count("\n") == 1
    assert not at_once


def test_tables_are_shown_even_if_they_cannot_be_written(
    command: Command, at_once: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "bench.json").mkdir()
    outcome = command("bench", "vocode", *SMALL, "-o", tmp_path)
    assert outcome.code == 1
    assert f"{tmp_path / 'bench.json'} cannot be written (" in outcome.err
    assert "it broke off" in outcome.out


def leave_pictures(folder: Path) -> None:
    for name in ("roofline.png", "growth.png"):
        (folder / name).write_bytes(b"of an earlier run")


def test_pictures_need_something_to_draw(
    command: Command, at_once: list[dict[str, Any]], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    leave_pictures(tmp_path)
    outcome = command("bench", "vocode", *SMALL, "-o", tmp_path)
    assert "bench: no roofline.png: nothing that was measured" in outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "bench.md"]


def test_without_matplotlib_there_is_no_picture(
    command: Command,
    at_once: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("soundstorm_cli.bench.find_spec", lambda name: None)
    leave_pictures(tmp_path)
    outcome = command("bench", "vocode", *SMALL, "-o", tmp_path)
    assert "matplotlib is not installed" in outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "bench.md"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sing"], "there is nothing called sing to measure"),
        (["decode", "--presets", "huge"], "there is no preset huge"),
        (["decode", "--presets", "mini,"], "--presets 'mini,' is no list"),
        (["decode", "--seconds", "5,x"], "--seconds 5,x is no list of lengths"),
        (["decode", "--seconds", "0"], "--seconds 0 is no list of lengths"),
        (["decode", "--batches", "0"], "--batches 0 is no list of whole numbers"),
        (["decode", "--levels", "a"], "--levels a is no list of whole numbers"),
        (["decode", "--iterations", "0"], "--iterations 0 is no list of passes a level"),
        (["vocode", "--precisions", "int8"], "vocode cannot be measured in int8"),
        (["decode", "--device", "cuda:77"], "there is no device cuda:77"),
    ],
)
def test_refusals(
    arguments: list[str], message: str, command: Command, at_once: list[dict[str, Any]]
) -> None:
    outcome = command("bench", *arguments)
    assert outcome.code == 2
    assert outcome.err.startswith("soundstorm: ")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not at_once
