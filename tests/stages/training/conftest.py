"""Tiny token sets and tiny tasks, for tests of the loop."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from stages.shards.provenance import Provenance, StageRecord
from stages.shards.reader import open_rows
from stages.shards.rows import ID, SEMANTIC, SPEAKER, TEXT, acoustic_field
from stages.shards.spec import TokenSpec
from stages.shards.writer import write_shard
from stages.training.distributed import Processes
from stages.training.presets import preset
from stages.training.settings import TrainingSettings, overlay
from stages.training.tasks.registry import TaskInputs, build_task

LEVELS, CODES, SEMANTIC_CODES = 3, 8, 10

TINY: dict[str, Any] = {
    "batch_size": 6,
    "micro_batch_seconds": 2.0,
    "log_every": 1,
    "valid_every": 1000,
    "valid_examples": 8,
    "optimiser": {"learning_rate": 1e-2, "warmup_steps": 2, "decay_steps": 50},
    "data": {"min_seconds": 0.2, "max_seconds": 1.5},
    "network": {"layers": 1, "heads": 2, "width": 16, "feed_forward": 32, "dropout": 0.1},
}


def _write_tokens(folder: Path, rows: list[dict[str, Any]], *, codec: str = "b" * 64) -> Path:
    semantic = TokenSpec(
        kind="semantic", name="made-up", fingerprint="a" * 64, frame_rate=Fraction(25),
        codebook_size=SEMANTIC_CODES,
    )  # fmt: skip
    acoustic = TokenSpec(
        kind="acoustic", name="made-up", fingerprint=codec, frame_rate=Fraction(50),
        codebook_size=CODES, levels=LEVELS,
    )  # fmt: skip
    provenance = Provenance(
        (
            StageRecord(stage="tokenize-semantic", version="0", settings={}, tokens=semantic),
            StageRecord(stage="tokenize-acoustic", version="0", settings={}, tokens=acoustic),
        )
    )
    schema = pa.schema([ID, SPEAKER, TEXT, SEMANTIC, acoustic_field(LEVELS)])
    write_shard(folder / "part-00000-of-00001.parquet", [rows], schema, provenance)
    return folder


def _token_rows(count: int = 12, seed: int = 0) -> list[dict[str, Any]]:
    """Utterances whose acoustic tokens follow from their semantic ones."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        frames = int(random.integers(20, 90))
        semantic = random.integers(0, SEMANTIC_CODES, (frames + 1) // 2).astype(np.uint16)
        acoustic = (np.repeat(semantic, 2)[:frames, None] + np.arange(LEVELS)) % CODES
        rows.append(
            {
                "id": f"u{index:02d}",
                "speaker": f"s{index % 4}" if index % 5 else None,
                "text": f"number {index}" if index % 3 else None,
                "semantic": semantic,
                "acoustic": acoustic.astype(np.uint16),
            }
        )
    return rows


@pytest.fixture(scope="session")
def token_rows() -> Callable[..., list[dict[str, Any]]]:
    """`token_rows(count=12, seed=0)`."""
    return _token_rows


@pytest.fixture(scope="session")
def write_tokens() -> Callable[..., Path]:
    """`write_tokens(folder, rows, codec=...)` writes a shard and gives the folder."""
    return _write_tokens


@pytest.fixture(scope="session")
def token_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of token shards of twelve utterances. Do not change it."""
    return _write_tokens(tmp_path_factory.mktemp("tokens"), _token_rows())


@pytest.fixture(scope="session")
def tiny_settings() -> Callable[..., TrainingSettings]:
    """`tiny_settings(batch_size=4, optimiser={...})`: a SoundStorm that trains in no time."""

    def make(**changes: Any) -> TrainingSettings:
        settings = overlay(preset("soundstorm", "mini"), TINY, where="test")
        return overlay(settings, changes, where="test")

    return make


@pytest.fixture(scope="session")
def make_task(
    token_set: Path, tiny_settings: Callable[..., TrainingSettings]
) -> Callable[..., Any]:
    """`make_task(run, valid=False, **changes of settings)`: a tiny SoundStorm task."""

    def make(run: Path, *, valid: bool = False, **changes: Any) -> Any:
        with open_rows(token_set) as source:
            inputs = TaskInputs(
                train=source,
                valid=open_rows(token_set) if valid else None,
                run=run,
                device=torch.device("cpu"),
                processes=Processes(),
                warn=lambda text: None,
            )
            return build_task(tiny_settings(**changes), inputs)

    return make
