"""A run goes on from the model that it was started from, which need not be there any more."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.errors import DataMismatch
from stages.training.loop import Trainer
from stages.training.stopping import Limits, Stopper

MakeTask = Callable[..., Any]


@pytest.fixture
def run_from(make_task: MakeTask, tmp_path: Path) -> Callable[..., Trainer[Any]]:
    """`run_from(init, run, steps)` trains a run that starts from the model in `init`."""

    def train(init: Path | None, run: Path, steps: int) -> Trainer[Any]:
        trainer = Trainer(make_task(run), run, init=init)
        trainer.resume()
        with Stopper(Limits(max_steps=steps)) as stopper:
            trainer.run(stopper)
        return trainer

    return train


def test_only_the_model_it_started_from_is_taken_on_resume(
    run_from: Callable[..., Trainer[Any]], tmp_path: Path
) -> None:
    first, other, run = tmp_path / "first", tmp_path / "other", tmp_path / "run"
    run_from(None, first, 1)
    run_from(None, other, 2)
    run_from(first, run, 1)
    assert run_from(first, run, 2).step == 2
    with pytest.raises(
        DataMismatch,
        match=r"run was started from another model than .*other: leave out --init to go on with it",
    ):
        run_from(other, run, 3)
    shutil.rmtree(first)
    assert run_from(first, run, 3).step == 3  # it is needed no more
    assert run_from(None, run, 4).step == 4
    with pytest.raises(DataMismatch, match="from another model than"):  # still known
        run_from(other, run, 5)


def test_a_run_that_started_from_no_model_takes_none_on_resume(
    run_from: Callable[..., Trainer[Any]], tmp_path: Path
) -> None:
    run_from(None, tmp_path / "first", 1)
    run_from(None, tmp_path / "run", 1)
    with pytest.raises(DataMismatch, match=r"was started without --init, not from .*first: leave"):
        run_from(tmp_path / "first", tmp_path / "run", 2)


def test_a_checkpoint_that_does_not_say_is_resumed(
    run_from: Callable[..., Trainer[Any]], tmp_path: Path
) -> None:
    run_from(None, tmp_path / "first", 1)
    run_from(None, tmp_path / "run", 1)
    state = tmp_path / "run" / "checkpoint" / "step-00000001" / "state.json"
    document = json.loads(state.read_text())
    del document["origin"]
    state.write_text(json.dumps(document))
    for steps in (2, 3):  # nor does what is written after it
        assert run_from(tmp_path / "first", tmp_path / "run", steps).step == steps


def test_a_resumed_run_has_its_own_weights(make_task: MakeTask, tmp_path: Path) -> None:
    """Those of the model are not even read."""
    task = make_task(tmp_path / "run")
    trainer = Trainer(task, tmp_path / "run")
    with Stopper(Limits(max_steps=1)) as stopper:
        trainer.run(stopper)
    again = make_task(tmp_path / "run")
    again.initialise = pytest.fail
    Trainer(again, tmp_path / "run", init=tmp_path / "gone").resume()
