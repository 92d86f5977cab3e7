"""The script that puts a model between two others."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.nn.model_file import load_model_file, save_model_file
from tests.scripts import run_script

run = partial(run_script, "average_weights.py")


def save(folder: Path, weight: Tensor, **other: Any) -> Path:
    weights = {"a": weight, "places": torch.arange(3), "mask": torch.full((2,), -torch.inf)}
    tokens = {"semantic": {"name": "x"}}
    config = {"n": 1, **other}
    extra = {"steps": int(weight[0, 0])}
    save_model_file(folder, kind="test", config=config, weights=weights, tokens=tokens, extra=extra)
    return folder


def test_weights_lie_between_and_the_rest_is_the_seconds(tmp_path: Path) -> None:
    first = save(tmp_path / "first", torch.zeros(2, 40))
    second = save(tmp_path / "second", torch.full((2, 40), 8.0))
    done = run(first, second, "-o", tmp_path / "m", "--share", "0.25", "--precision", "float32")
    assert done.returncode == 0, done.stderr
    before, after, made = (load_model_file(tmp_path / name) for name in ("first", "second", "m"))
    assert torch.equal(made.weights["a"], torch.full((2, 40), 2.0))
    assert torch.equal(made.weights["places"], torch.arange(3))
    assert torch.equal(made.weights["mask"], torch.full((2,), -torch.inf))
    assert (made.kind, made.config, made.tokens) == (after.kind, after.config, after.tokens)
    assert made.extra == {
        "steps": 8,
        "averaged": {"with": before.fingerprint, "of": after.fingerprint, "share": 0.25},
    }
    again = run(first, second, "-o", tmp_path / "m")
    assert again.returncode == 2
    assert "holds a model already" in again.stderr


@pytest.mark.parametrize(
    ("shape", "share", "message"),
    [
        ({"n": 2}, "0.5", "are not models of one kind, shape and tokens"),
        ({}, "1.5", "--share 1.5 is the second model's: give one from 0 to 1"),
    ],
)
def test_what_has_nothing_between_is_refused(
    tmp_path: Path, shape: dict[str, Any], share: str, message: str
) -> None:
    first = save(tmp_path / "first", torch.zeros(2, 40))
    second = save(tmp_path / "second", torch.ones(2, 40), **shape)
    done = run(first, second, "-o", tmp_path / "m", "--share", share)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "m").exists()
