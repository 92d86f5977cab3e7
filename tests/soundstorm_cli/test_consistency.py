"""Acoustic consistency from the command line: an encoder, a model on it, and its scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

STEP = ["--max-steps", 1, "--workers", 0, "--device", "cpu", "--quiet"]


def settings(*values: str) -> list[str]:
    return [part for value in values for part in ("--set", value)]


@pytest.fixture
def encoder(command: Command, corpus: Path, tmp_path: Path) -> Path:
    """A BEST-RQ model of one step."""
    shape = ("layers=2", "heads=2", "width=16", "feed_forward=16", "mels=20")
    folder = tmp_path / "encoder"
    assert command(
        "train", corpus / "manifest.tsv", "-o", folder, "--model", "best-rq", *STEP,
        *settings(*(f"network.{value}" for value in shape), "batch_size=2"),
    ).code == 0  # fmt: skip
    return folder


def test_from_speech_to_scores(
    command: Command, corpus: Path, encoder: Path, tmp_path: Path
) -> None:
    manifest, model = corpus / "manifest.tsv", tmp_path / "model"
    small = settings(
        "network.heads=2", "network.feed_forward=16", "network.dim=8", "batch_size=4",
        "data.min_seconds=0.3", "data.max_seconds=0.5", "saved_precision=float16",
    )  # fmt: skip
    ended = command(
        "train", manifest, "--valid", manifest, "-o", model, "--model", "consistency",
        "--encoder", f"{encoder}:1", *STEP, *small, "--json",
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    metrics = json.loads(ended.out)["metrics"]
    assert metrics["valid/chance"] == pytest.approx(1 / 6)
    assert 0 <= metrics["valid/accuracy"] <= 1
    document = json.loads((model / "config.json").read_text())
    assert document["kind"] == "consistency"
    assert document["config"]["encoder"]["layers"] == 1

    ended = command(
        "eval", manifest, "--measures", "consistency", "--consistency", model,
        "--prompt-seconds", 0.5, "--json", "--quiet",
    )  # fmt: skip
    assert ended.code == 1
    assert "its prompt lasts 0.50 s: acoustic consistency needs 1 s" in ended.err
    ended = command(
        "eval", manifest, "--consistency", encoder, "--measures", "consistency", "--quiet"
    )
    assert ended.code == 2
    assert "holds a best-rq model where a consistency is needed" in ended.err


def test_a_run_without_an_encoder_is_one_sentence(
    command: Command, corpus: Path, tmp_path: Path
) -> None:
    manifest = corpus / "manifest.tsv"
    ended = command("train", manifest, "-o", tmp_path, "--model", "consistency", *STEP)
    assert ended.code == 2
    assert ended.err == (
        "soundstorm: name the BEST-RQ model to listen with: --encoder FOLDER[:LAYER]\n"
    )
    ended = command("train", manifest, "-o", tmp_path, "--model", "codec", "--encoder", "x", *STEP)
    assert ended.code == 2
    assert ended.err.startswith("soundstorm: codec has no recipe: only")
