"""Training steps are timed where the loop itself waits and works."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stages.speed import training
from stages.speed.cells import Cell
from stages.speed.shapes import frames_of
from stages.speed.training import WARM_UP, measure_training
from stages.speed.work import Limits, TooLong
from stages.training.tasks import soundstorm
from stages.training.tasks.soundstorm import SoundStormTask, TokenWindows

CPU = torch.device("cpu")


@pytest.fixture
def cell() -> Cell:
    return Cell(task="train", what="mini", seconds=Fraction(1, 5), batch=2, levels=2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time in which only two things take any: a batch 3 s and its loss 1 s."""
    now = SimpleNamespace(seconds=0.0, batches=[])
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    micro_batches, loss = TokenWindows.micro_batches, SoundStormTask.loss

    def slow_batches(self: TokenWindows, *place: int) -> Any:
        now.seconds += 3
        now.batches.append(micro_batches(self, *place))
        return now.batches[-1]

    def slow_loss(self: SoundStormTask, *given: Any) -> Any:
        now.seconds += 1
        return loss(self, *given)

    monkeypatch.setattr(soundstorm.TokenWindows, "micro_batches", slow_batches)
    monkeypatch.setattr(SoundStormTask, "loss", slow_loss)
    return now


def test_a_step_and_its_wait_for_data(cell: Cell, clock: SimpleNamespace) -> None:
    found = measure_training(cell, Limits(budget=1000.0, repeats=3), CPU)
    assert found.times == [4.0, 4.0, 4.0]
    assert found.more["data_share"] == 0.75
    assert found.more["tokens_per_second"] == 2 * 10 * 2 / 4
    assert len(found.products) == 3
    assert found.flops is not None
    assert found.flops > 0
    assert len(clock.batches) == WARM_UP + 3
    for micro_batches in clock.batches:  # all of a step at once, in windows of the cell's length
        (batch,) = micro_batches
        assert batch.acoustic.shape == (2, frames_of(cell.seconds), 2)


def test_steps_keep_to_the_budget(cell: Cell, clock: SimpleNamespace) -> None:
    found = measure_training(cell, Limits(budget=13.0, repeats=9), CPU)
    assert len(found.times) == 2


def test_a_step_that_is_too_long(cell: Cell, clock: SimpleNamespace) -> None:
    with pytest.raises(TooLong, match="one step takes 4 s, more than the 3 s"):
        measure_training(cell, Limits(budget=3.0), CPU)
    with pytest.raises(TooLong, match="one step would take about"):
        measure_training(cell, Limits(budget=3.0), CPU, roof=1.0)


def test_nothing_is_left_behind(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    measure_training(cell, Limits(repeats=1), CPU)
    assert not list(tmp_path.iterdir())
