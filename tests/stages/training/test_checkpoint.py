"""Checkpoints appear whole or not at all, and a damaged one costs only what came after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stages.errors import DataMismatch, StageFailure
from stages.training.checkpoint import (
    Checkpoint,
    has_checkpoint,
    load_checkpoint,
    load_optimiser_tensors,
    optimiser_tensors,
    save_checkpoint,
)


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        step=step,
        settings={"a": {"b": 0.1}},
        data_fingerprint="f" * 64,
        seconds=1.5,
        tensors={"model/weights/x": torch.full((3,), float(step))},
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_comes_back_and_two_are_kept(tmp_path: Path) -> None:
    warnings: list[str] = []
    assert load_checkpoint(tmp_path / "none", warnings.append) is None
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, checkpoint(step))
    assert names(tmp_path) == ["step-00000002", "step-00000003"]
    found = load_checkpoint(tmp_path, warnings.append)
    assert found is not None
    assert (found.step, found.settings, found.seconds) == (3, {"a": {"b": 0.1}}, 1.5)
    assert found.tensors["model/weights/x"].tolist() == [3.0, 3.0, 3.0]
    assert warnings == []


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1))
    save_checkpoint(tmp_path, checkpoint(1))
    assert names(tmp_path) == ["step-00000001"]


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "state", "version"])
def test_a_damaged_one_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, checkpoint(step))
    tensors = tmp_path / "step-00000002" / "tensors.safetensors"
    state = tmp_path / "step-00000002" / "state.json"
    if damage == "flip":
        data = bytearray(tensors.read_bytes())
        data[-1] ^= 1
        tensors.write_bytes(bytes(data))
    elif damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:10])
    elif damage == "remove":
        tensors.unlink()
    elif damage == "state":
        state.write_text(state.read_text()[:20])
    else:
        state.write_text(state.read_text().replace('"format_version": 1', '"format_version": 9'))
    warnings: list[str] = []
    found = load_checkpoint(tmp_path, warnings.append)
    assert found is not None
    assert found.step == 1
    assert len(warnings) == 1
    assert "step-00000002 is damaged" in warnings[0]


def test_with_nothing_whole_it_says_so(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1))
    (tmp_path / "step-00000001" / "state.json").write_text("{}")
    with pytest.raises(DataMismatch, match=r"no checkpoint in .* can be read: remove it"):
        load_checkpoint(tmp_path, lambda text: None)


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
import torch
import stages.training.checkpoint as checkpoint

honest, moment = checkpoint.write_tensors, sys.argv[2]

def write_tensors(path, tensors):
    honest(path, tensors)
    if moment == "tensors":
        Path(path).write_bytes(Path(path).read_bytes()[:50])
        os.kill(os.getpid(), signal.SIGKILL)

def sync(path):
    if moment == "sync":
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.write_tensors, checkpoint._sync = write_tensors, sync
checkpoint.save_checkpoint(Path(sys.argv[1]), checkpoint.Checkpoint(
    step=2, settings={}, data_fingerprint="", seconds=0.0, tensors={"x": torch.zeros(100)}))
"""


@pytest.mark.parametrize("moment", ["tensors", "sync"])
def test_killed_while_writing_it_leaves_the_one_before(tmp_path: Path, moment: str) -> None:
    save_checkpoint(tmp_path, checkpoint(1))
    ended = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, str(tmp_path), moment],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ended.returncode == -signal.SIGKILL
    assert names(tmp_path) == ["step-00000001", "step-00000002.tmp"]
    found = load_checkpoint(tmp_path, pytest.fail)
    assert found is not None
    assert found.step == 1
    save_checkpoint(tmp_path, checkpoint(2))
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_what_a_killed_run_left_half_written_goes(tmp_path: Path) -> None:
    (tmp_path / "step-00000007.tmp").mkdir()
    assert not has_checkpoint(tmp_path)
    save_checkpoint(tmp_path, checkpoint(1))
    assert has_checkpoint(tmp_path)
    assert names(tmp_path) == ["step-00000001"]


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StageFailure, match=r"file/step-00000001 cannot be written"):
        save_checkpoint(tmp_path / "file", checkpoint(1))


def test_an_optimiser_goes_on_as_if_never_stopped() -> None:
    def train(module: torch.nn.Module, optimiser: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimiser.zero_grad()
            module(torch.ones(1, 3)).square().sum().backward()
            optimiser.step()

    torch.manual_seed(0)
    first = torch.nn.Linear(3, 2)
    first_optimiser = torch.optim.AdamW(first.parameters(), lr=0.1, fused=True)
    train(first, first_optimiser, 3)
    second = torch.nn.Linear(3, 2)
    second.load_state_dict(first.state_dict())
    second_optimiser = torch.optim.AdamW(second.parameters(), lr=0.1, fused=True)
    saved = optimiser_tensors(first_optimiser, first)
    assert set(saved) == {
        f"{name}/{key}" for name in ("weight", "bias") for key in ("step", "exp_avg", "exp_avg_sq")
    }
    load_optimiser_tensors(second_optimiser, second, saved)
    train(first, first_optimiser, 2)
    train(second, second_optimiser, 2)
    assert torch.equal(first.weight, second.weight)
