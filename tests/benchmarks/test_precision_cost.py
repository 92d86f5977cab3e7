"""Counting what a precision changes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmarks.precision_cost import costs, main
from stages.shards.provenance import Provenance, StageRecord
from stages.shards.reader import open_rows
from stages.shards.rows import ID, SEMANTIC, Row, acoustic_field
from stages.shards.spec import TokenSpec
from stages.shards.writer import write_shard
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.model import to_model_file
from stages.soundstorm.network import SoundStorm

SEMANTIC_TOKENS = TokenSpec(
    kind="semantic", name="km", fingerprint="a" * 64, frame_rate=Fraction(25), codebook_size=7
)
ACOUSTIC_TOKENS = TokenSpec(
    kind="acoustic", name="codec", fingerprint="b" * 64, frame_rate=Fraction(50),
    codebook_size=11, levels=2,
)  # fmt: skip


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """Three rows, of which the first is short."""
    random = np.random.default_rng(0)
    rows: list[Row] = [
        {
            "id": f"u{frames}",
            "semantic": random.integers(0, 7, frames // 2),
            "acoustic": random.integers(0, 11, (frames, 2)),
        }
        for frames in (10, 60, 80)
    ]
    records = [
        StageRecord(stage=f"tokenize-{spec.kind}", version="0", settings={}, tokens=spec)
        for spec in (SEMANTIC_TOKENS, ACOUSTIC_TOKENS)
    ]
    schema = pa.schema([ID, SEMANTIC, acoustic_field(2)])
    write_shard(tmp_path / "in.parquet", [rows], schema, Provenance(tuple(records)))
    return tmp_path / "in.parquet"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = SoundStormConfig(
        levels=2, codebook_size=11, semantic_codebook_size=7, layers=1, heads=2, width=16,
        feed_forward=32,
    )  # fmt: skip
    to_model_file(
        tmp_path / "run",
        config=config,
        weights=SoundStorm(config).state_dict(),
        semantic=SEMANTIC_TOKENS,
        acoustic=ACOUSTIC_TOKENS,
    )
    return tmp_path / "run"


def test_costs(tokens: Path, model: Path) -> None:
    with open_rows(str(tokens)) as source:
        seed, same, less = costs(
            str(model), source, ["float32", "int8"], limit=2, seconds=Fraction(1, 2)
        )
    assert seed.tokens == same.tokens == 35 + 55
    assert same.first_level == same.all_levels == same.first_choices == 0.0
    assert same.loss == same.float32_loss
    assert 0.0 <= less.first_choices < 0.2
    assert less.loss != less.float32_loss
    assert 0.0 <= less.first_level < seed.first_level


def test_prints_a_table_or_tells(
    tokens: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [str(tokens), "--model", str(model), "--precisions", "int8"]
    assert main([*chosen, "--prompt-seconds", "1/2", "--limit", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["float32, another seed", "int8"]
    assert main([*chosen, "--prompt-seconds", "9"]) == 1
    assert "lasts longer than 9 s" in capsys.readouterr().err
