"""A whole run: what is asked of processes, what becomes of those that die, tables, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from stages.errors import StageFailure
from stages.speed import bench as module
from stages.speed.bench import Ask, Bench, ask_process, bench
from stages.speed.cells import Cell, Choice
from stages.speed.growth import growths
from stages.speed.measured import Measured, Result
from stages.speed.tables import bench_markdown
from stages.speed.work import Limits

CHOICE = Choice(
    tasks=["decode", "train"], presets=["mini"], seconds=[Fraction(2), Fraction(5)], batches=[1, 3]
)


@pytest.fixture
def found(ask: Ask) -> Bench:
    return bench(CHOICE, Limits(budget=7.0, repeats=3), ask=ask)


def test_every_cell_is_asked_for_with_the_roof_of_its_precision(ask: Ask) -> None:
    asked: list[Mapping[str, Any]] = []
    told: list[Result] = []

    def noted(request: Mapping[str, Any]) -> dict[str, Any]:
        asked.append(json.loads(json.dumps(request)))
        return ask(request)

    limits = Limits(budget=7.0, repeats=3)
    found = bench(CHOICE, limits, device="cpu", threads=3, ask=noted, tell=told.append)
    roofs, *cells = asked
    assert roofs == {"device": "cpu", "threads": 3, "roofs": ["float32"]}
    assert len(cells) == len(found.results) == len(told) == 8
    assert cells[0]["limits"] == {"budget": 7.0, "repeats": 3}
    assert {cell["roof"] for cell in cells} == {1e11}


def test_a_process_that_dies_costs_its_own_cell_only(ask: Ask) -> None:
    def dying(request: Mapping[str, Any]) -> dict[str, Any]:
        if request.get("cell", {}).get("batch") == 3:
            raise StageFailure("its process was killed")
        return ask(request)

    found = bench(CHOICE, Limits(), ask=dying)
    assert [result.failed for result in found.results] == [False, False, True, True] * 2
    assert found.failed == 4
    assert "Not measured: decode mini, 2 s x 3: its process was killed." in bench_markdown(found)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", "killed, perhaps for want of memory"),
        ("raise SystemExit(3)", "ended with exit code 3"),
    ],
)
def test_the_death_of_a_real_process(
    code: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nexec {module.sys.executable} -c '{code}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(module.sys, "executable", str(program))
    with pytest.raises(StageFailure, match=message):
        ask_process({"threads": None})


def test_results_survive_json(found: Bench) -> None:
    again = [Result.from_json(json.loads(json.dumps(one.to_json()))) for one in found.results]
    assert again == list(found.results)
    value = found.results[1].to_json()["measured"]
    assert value["seconds"] == 10.0
    assert (value["fastest"], value["slowest"]) == (5.0, 15.0)
    assert value["real_time_factor"] == 2.0
    assert value["share_of_peak"] == 0.5
    assert value["flops_per_byte"] == pytest.approx(1e9 * 25 / (1e8 * 5))


def test_tables(found: Bench) -> None:
    text = bench_markdown(found)
    assert (
        "Large matrix products reach 100 GFLOP/s in float32; copying memory moves 10 GB/s" in text
    )
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| mini")
    ]
    heading = next(line for line in text.splitlines() if line.startswith("|  | precision"))
    names = [cell.strip() for cell in heading.strip("|").split("|")]
    decode = [dict(zip(names, row, strict=False)) for row in rows[:4]]
    assert decode[0]["seconds"] == "4"
    assert decode[0]["fastest to slowest"] == "2 to 6"
    assert decode[0]["from"] == "3 runs"
    assert decode[0]["share of peak"] == "50 %"
    assert decode[0]["memory, MB"] == "7"
    assert (decode[2]["audio, s"], decode[2]["batch"]) == ("2", "3")
    assert decode[2]["seconds"] == "≈ 12"
    assert decode[2]["from"] == "1 of 3 passes, 3 times"
    assert [row["grew"] for row in decode] == ["1 x", "2.5 x", "3 x", "7.5 x"]
    assert [row["by FLOPs"] for row in decode] == ["1 x", "6.25 x", "9 x", "56.2 x"]
    assert all("–" in row for row in rows[4:])
    assert text.count("Not measured: train mini") == 4


def test_a_busy_machine_is_said_to_be(found: Bench) -> None:
    assert "**The machine was busy**" in bench_markdown(replace(found, load=2.0, cores=2))
    assert "**The machine was busy**" not in bench_markdown(replace(found, load=0.2, cores=2))


def test_growth_is_within_a_group_of_more_than_one() -> None:
    def result(what: str, flops: float | None, iterations: str = "16,1") -> Result:
        cell = Cell(task="decode", what=what, iterations=iterations)
        return Result(cell=cell, measured=Measured(times=[2.0 * (flops or 1)], flops=flops))

    results = [
        result("a", 3.0), result("b", 1.0), result("a", 6.0), result("c", None),
        result("a", 2.0, "1"),
        Result(cell=Cell(task="decode", what="a"), why_not="too long"),
    ]  # fmt: skip
    grown = growths(results)
    assert [growth and growth.seconds for growth in grown] == [1.0, None, 2.0, None, None, None]


def test_pictures(found: Bench, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from stages.speed.figures import draw_growth, draw_roofline

    for draw in (draw_roofline, draw_growth):
        target = tmp_path / f"{draw.__name__}.png"
        assert draw(found, target)
        assert target.read_bytes().startswith(b"\x89PNG")
    nothing = replace(found, results=[one for one in found.results if one.measured is None])
    for draw in (draw_roofline, draw_growth):
        assert not draw(nothing, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
