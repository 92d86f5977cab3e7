"""The script that makes model folders smaller."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from stages.assets import model_folder
from stages.nn.model_file import WEIGHTS_NAME, load_model_file, save_model_file
from tests.scripts import run_script

run = partial(run_script, "round_weights.py")


def test_a_model_becomes_smaller_and_stays_what_it_is(tmp_path: Path) -> None:
    weights = {"a": torch.randn(40, 64), "b": torch.randn(40)}
    tokens = {"semantic": {"name": "x"}}
    save_model_file(
        tmp_path / "m", kind="test", config={"n": 1}, weights=weights, tokens=tokens,
        extra={"steps": 3},
    )  # fmt: skip
    done = run(tmp_path / "m", "-o", tmp_path / "small")
    assert done.returncode == 0, done.stderr
    before, after = (load_model_file(tmp_path / name) for name in ("m", "small"))
    assert (after.kind, after.config, after.tokens) == (before.kind, before.config, before.tokens)
    assert after.extra == {"steps": 3, "rounded_to": "int8"}
    torch.testing.assert_close(after.weights["a"], weights["a"], rtol=0, atol=0.03)
    sizes = [(tmp_path / name / WEIGHTS_NAME).stat().st_size for name in ("m", "small")]
    assert sizes[1] < 0.4 * sizes[0]
    again = run(tmp_path / "m", "-o", tmp_path / "small")
    assert again.returncode == 2
    assert "holds a model already" in again.stderr


def test_what_tokens_hang_on_is_not_rounded(tmp_path: Path) -> None:
    done = run(model_folder("mini", "kmeans"), "-o", tmp_path / "k")
    assert done.returncode == 2
    assert "holds a kmeans, whose tokens hang on its very weights" in done.stderr
    assert not (tmp_path / "k").exists()
