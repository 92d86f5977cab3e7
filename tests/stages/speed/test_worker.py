"""What a process answers, of tiny cells, really measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from typing import Any

import pytest
import torch

from stages.errors import StageFailure
from stages.speed import worker
from stages.speed.bench import ask_process
from stages.speed.cells import PARTS, TOKENIZE, VOCODE, Cell
from stages.speed.measured import Result
from stages.speed.work import Limits
from stages.speed.worker import answer


def request(cell: Cell, **limits: Any) -> dict[str, Any]:
    asked = {
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "cell": cell.to_json(),
        "limits": asdict(Limits(repeats=1, **limits)),
        "roof": 1e15,
    }
    value: dict[str, Any] = json.loads(json.dumps(asked))
    return value


def results(answered: dict[str, Any]) -> list[Result]:
    return [Result.from_json(value) for value in json.loads(json.dumps(answered))["results"]]


def test_a_process_answers(mini_cell: Cell) -> None:
    (result,) = results(ask_process(request(mini_cell)))
    assert result.cell == mini_cell
    found = result.measured
    assert found is not None
    assert found.base_memory is not None
    assert found.peak_memory is not None
    assert found.peak_memory > found.base_memory > 0
    assert found.steps == 16 + 2 - 6  # a row of ten frames has nothing due in six of its passes
    assert found.share is not None
    assert found.share > 0
    assert found.more["tokens_per_second"] == pytest.approx(2 * 10 * 3 / found.seconds)


@pytest.mark.parametrize(
    ("task", "part"), [(task, part) for task in (TOKENIZE, VOCODE) for part in PARTS[task]]
)
def test_audio(task: str, part: str) -> None:
    cell = Cell(task=task, what=part, seconds=Fraction(1, 5), batch=2)
    (result,) = results(answer(request(cell)))
    found = result.measured
    assert found is not None
    assert found.more["rows_per_second"] == pytest.approx(2 / found.seconds)
    assert found.more["audio_seconds_per_second"] == pytest.approx(0.4 / found.seconds)
    assert found.products
    assert found.flops


def test_shards_beside_pyarrow() -> None:
    cell = Cell(task="shards", what="shards", seconds=Fraction(1), batch=5)
    found = {result.cell.what: result.measured for result in results(answer(request(cell)))}
    assert list(found) == ["write", "write by pyarrow alone", "read", "read by pyarrow alone"]
    for measured in found.values():
        assert measured is not None
        assert measured.more["rows_per_second"] == pytest.approx(5 / measured.seconds)


def test_what_is_too_long_says_so(mini_cell: Cell) -> None:
    asked = request(mini_cell) | {"roof": 1.0}
    (result,) = results(answer(asked))
    assert result.measured is None
    assert "more than the 15 s of --budget-seconds" in result.why_not
    assert not result.failed


def broken(error: Exception) -> Callable[..., list[Result]]:
    def measure(*given: object) -> list[Result]:
        raise error

    return measure


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("17 GiB"), "the GPU's memory does not hold it"),
        (StageFailure("a command failed"), "a command failed"),
    ],
)
def test_what_breaks_off_says_so(
    error: Exception, words: str, mini_cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(worker.MEASURERS, "decode", broken(error))
    (result,) = results(answer(request(replace(mini_cell))))
    assert (result.failed, result.why_not) == (True, words)
