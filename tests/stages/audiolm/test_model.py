"""Model folders and configurations: there and back, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.audiolm.config import STAGES, CoarseConfig, FineConfig, SemanticConfig
from stages.audiolm.model import StageModel, from_model_file, join_stages, to_model_file
from stages.errors import DataMismatch

MakeStage = Callable[..., StageModel[Any]]
CPU = torch.device("cpu")


def save(stage: StageModel[Any], folder: Path) -> None:
    to_model_file(
        folder,
        config=stage.config,
        weights=stage.network.state_dict(),
        tokens=stage.tokens,
    )


@pytest.mark.parametrize(
    "name", ["semantic", "coarse", "dedup", "semantic of centroids", "coarse of centroids", "fine"]
)
def test_there_and_back(name: str, make_stage: MakeStage, tmp_path: Path) -> None:
    stage = make_stage(name)
    save(stage, tmp_path)
    loaded = from_model_file(tmp_path, type(stage.config), CPU)
    assert loaded.config == stage.config
    assert loaded.tokens == stage.tokens
    assert len(loaded.fingerprint) == 64
    assert not loaded.network.training
    for key, value in stage.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], value)


def test_a_stage_is_not_another(make_stage: MakeStage, tmp_path: Path) -> None:
    save(make_stage("fine"), tmp_path)
    with pytest.raises(DataMismatch, match="audiolm-fine model where a audiolm-coarse is needed"):
        from_model_file(tmp_path, CoarseConfig, CPU)


def test_weights_of_another_shape(make_stage: MakeStage, tmp_path: Path) -> None:
    stage = make_stage("coarse")
    save(replace(stage, config=replace(stage.config, width=32)), tmp_path)
    with pytest.raises(DataMismatch, match=r"are not those of its config\.json"):
        from_model_file(tmp_path, CoarseConfig, CPU)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("coarse", {"codebook_size": 12}, "acoustic codebook of 12 entries"),
        ("coarse", {"semantic_codebook_size": 8}, "semantic codebook of 8 entries"),
        ("semantic", {"semantic_codebook_size": 8}, "semantic codebook of 8 entries"),
        ("fine", {"levels": 6}, "6 levels while its acoustic tokens have 5"),
    ],
)
def test_tokens_that_do_not_fit(
    name: str, change: dict[str, int], sentence: str, make_stage: MakeStage, tmp_path: Path
) -> None:
    stage = make_stage(name)
    with pytest.raises(DataMismatch, match=sentence):
        to_model_file(
            tmp_path, config=replace(stage.config, **change), weights={}, tokens=stage.tokens
        )


def test_stages_that_do_not_go_on_where_others_end(make_stage: MakeStage) -> None:
    coarse, fine = make_stage("coarse"), make_stage("fine")
    joined = join_stages(coarse, fine, coarse_where="c", fine_where="f")
    assert (joined.levels, joined.codebook_size, joined.semantic_codebook_size) == (5, 11, 7)
    assert join_stages(coarse, None, coarse_where="c", fine_where="f").levels == 2
    other = replace(fine, config=replace(fine.config, coarse_levels=3))
    with pytest.raises(DataMismatch, match="f goes on from 3 coarse levels while c makes 2"):
        join_stages(coarse, other, coarse_where="c", fine_where="f")
    spec = replace(fine.tokens["acoustic"], fingerprint="d" * 64)
    other = replace(fine, tokens={"acoustic": spec})
    with pytest.raises(DataMismatch, match="acoustic tokens of c and f do not fit: their maker"):
        join_stages(coarse, other, coarse_where="c", fine_where="f")


@pytest.mark.parametrize(
    ("stage", "change", "sentence"),
    [
        ("semantic", {"depth": 1}, "sets depth, which is none of"),
        ("semantic", {"layers": 1.5}, "sets layers to 1.5: it must be a whole number"),
        ("coarse", {"keep_duplicates": 1}, "sets keep_duplicates to 1: it must be true or false"),
        ("coarse", {"levels": True}, "sets levels to True: it must be a whole number"),
        ("coarse", {"chunk_seconds": 3}, "an overlap of 3 s is not within a chunk of 3 s"),
        ("coarse", {"levels": 0}, "at least one level"),
        ("fine", {"coarse_levels": 12}, "at least one level"),
        ("fine", {"coarse_levels": 0}, "at least one coarse level"),
        ("fine", {"heads": 5}, "does not split into 5 heads"),
    ],
)
def test_configurations_that_cannot_be(stage: str, change: dict[str, Any], sentence: str) -> None:
    needed: dict[str, dict[str, int]] = {
        "semantic": {"semantic_codebook_size": 7},
        "coarse": {"semantic_codebook_size": 7, "codebook_size": 11},
        "fine": {"codebook_size": 11, "levels": 12},
    }
    with pytest.raises(DataMismatch, match=sentence):
        STAGES[stage].from_json({**needed[stage], **change}, where="here")
    with pytest.raises(DataMismatch, match="here does not set"):
        STAGES[stage].from_json({}, where="here")
    made = STAGES[stage].from_json(needed[stage], where="here")
    assert STAGES[stage].from_json(made.to_json(), where="here") == made


def test_defaults_are_the_papers() -> None:
    coarse = CoarseConfig(semantic_codebook_size=1024, codebook_size=1024)
    fine = FineConfig(codebook_size=1024, levels=12)
    semantic = SemanticConfig(semantic_codebook_size=1024)
    assert (coarse.levels, coarse.chunk_seconds, coarse.overlap_seconds) == (4, 10.0, 3.0)
    assert coarse.keep_duplicates
    assert (fine.groups, fine.chunk_seconds) == (8, 3.0)
    for config in (coarse, fine, semantic):
        shape = config.transformer
        assert (shape.layers, shape.heads, shape.width, shape.feed_forward) == (12, 16, 1024, 4096)
