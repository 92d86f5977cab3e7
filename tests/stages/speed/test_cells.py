"""What is measured when what is asked for."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest

from stages.errors import DataMismatch
from stages.speed.audio_work import WORKS
from stages.speed.cells import PARTS, TASKS, TOKENIZE, VOCODE, Cell, Choice, cells_of
from stages.speed.worker import MEASURERS


def test_all_of_everything_by_default() -> None:
    cells = cells_of(Choice())
    assert list(dict.fromkeys(cell.task for cell in cells)) == list(TASKS)
    decode = [cell for cell in cells if cell.task == "decode"]
    assert len(decode) == 3 * 3 * 2
    assert {cell.what for cell in decode} == {"mini", "base", "350m"}
    assert len(set(cells)) == len(cells)


def test_lists_are_a_grid() -> None:
    choice = Choice(
        tasks=["decode"], presets=["mini"], seconds=[Fraction(10), Fraction(5)], batches=[1, 4],
        levels=[12, 3],
    )  # fmt: skip
    assert [(cell.levels, cell.batch, cell.seconds) for cell in cells_of(choice)] == [
        (3, 1, 5), (3, 1, 10), (3, 4, 5), (3, 4, 10),
        (12, 1, 5), (12, 1, 10), (12, 4, 5), (12, 4, 10),
    ]  # fmt: skip


def test_passes_are_of_decoding_alone() -> None:
    choice = Choice(
        tasks=["decode", "train"], presets=["mini"], seconds=[Fraction(5)], batches=[1],
        iterations=["1", "16,1"],
    )  # fmt: skip
    cells = cells_of(choice)
    assert [(cell.task, cell.iterations) for cell in cells] == [
        ("decode", "1"), ("decode", "16,1"), ("train", "16,1"),
    ]  # fmt: skip
    assert [cell.words() for cell in cells[:2]] == ["decode mini, 5 s, 1", "decode mini, 5 s"]


def test_a_task_leaves_out_precisions_it_does_not_know() -> None:
    choice = Choice(presets=["mini"], precisions=["float32", "bfloat16"])
    cells = cells_of(choice)
    assert {cell.precision for cell in cells if cell.task == "train"} == {"float32", "bfloat16"}
    assert {cell.precision for cell in cells if cell.task == "vocode"} == {"float32"}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"tasks": ["sing"]}, "there is nothing called sing to measure: decode, train"),
        ({"iterations": ["0"]}, "--iterations 0 is no list of passes a level"),
        ({"levels": [2], "iterations": ["3,2,1"]}, "names 3 levels while the model makes 2"),
        ({"presets": ["huge"]}, "there is no preset huge of soundstorm"),
        ({"tasks": ["vocode"], "precisions": ["bfloat16"]}, "--precisions can be float32"),
    ],
)
def test_refusals(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(DataMismatch, match=message):
        Choice(**choice)


def test_a_length_is_the_same_fraction_after_json() -> None:
    """As a float, 3/10 of a second is a little less, and has one frame fewer."""
    cell = Cell(task="decode", what="mini", seconds=Fraction("0.3"))
    again = Cell.from_json(json.loads(json.dumps(cell.to_json())))
    assert again == cell
    assert again.seconds * 50 == 15


def test_there_is_a_way_to_measure_each() -> None:
    assert set(MEASURERS) == set(TASKS)
    assert set(WORKS) == {(task, part) for task in (TOKENIZE, VOCODE) for part in PARTS[task]}


def test_words() -> None:
    cell = Cell(task="decode", what="350m", seconds=Fraction(5), batch=8, precision="bfloat16")
    assert cell.words() == "decode 350m, 5 s x 8, bfloat16"
    assert Cell(task="startup", what="a").words() == "startup a"
