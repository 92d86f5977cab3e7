"""Masked-token scores: the same questions to every model, and the right sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.codec.base import Codec
from stages.errors import DataMismatch
from stages.evaluation import masked_tokens
from stages.evaluation.cache import ScoreCache
from stages.evaluation.masked_tokens import (
    MaskedTokenScores,
    draw_masks,
    ratio_bin,
    score_masked_tokens,
)
from stages.shards.reader import open_rows
from stages.shards.rows import Row
from stages.soundstorm.loss import masked_loss
from stages.soundstorm.model import from_model_file

WriteTokens = Callable[..., Path]


def score(
    model: Path, tokens: Path, folder: Path | None = None, **options: Any
) -> MaskedTokenScores:
    with open_rows(tokens) as source, ScoreCache(folder) as cache:
        return score_masked_tokens(model, source, cache, **options)


def test_masks_are_those_of_training_for_every_level() -> None:
    mask = draw_masks("a", 40, 3, draws=5, seed=0)
    assert mask.level.tolist() == [0, 1, 2] * 5
    assert ((mask.delimiter >= 0) & (mask.delimiter < 40)).all()
    before = torch.arange(40)[None, :] < mask.delimiter[:, None]
    assert not (mask.masked & before).any()
    # cos(u), u in [0, pi/2] uniform: each fifteenth of the range has one
    parts = (torch.acos(mask.ratio) / (math.pi / 2) * 15).long()
    assert sorted(parts.tolist()) == list(range(15))


def test_masks_depend_on_the_id_and_the_seed_alone() -> None:
    one, same = (draw_masks("a", 40, 3, draws=1, seed=0) for _ in range(2))
    assert torch.equal(one.masked, same.masked)
    assert not torch.equal(one.ratio, draw_masks("b", 40, 3, draws=1, seed=0).ratio)
    assert not torch.equal(one.ratio, draw_masks("a", 40, 3, draws=1, seed=1).ratio)


def test_ratios_fall_into_quarters() -> None:
    assert ratio_bin(0.0) == "ratio 0.00-0.25"
    assert ratio_bin(0.25) == "ratio 0.25-0.50"
    assert ratio_bin(1.0) == "ratio 0.75-1.00"


def test_loss_is_the_token_weighted_mean_of_the_network_s_own(
    model_folder: Path, write_tokens: WriteTokens, token_rows: list[Row]
) -> None:
    found = score(model_folder, write_tokens(token_rows), draws=3)
    model = from_model_file(model_folder, torch.device("cpu"))
    losses, tokens, correct = 0.0, 0, 0
    for row in token_rows:
        frames = len(row["acoustic"])
        mask = draw_masks(row["id"], frames, 1, draws=3, seed=0)
        codes = torch.from_numpy(row["acoustic"].astype(np.int64))
        semantic = torch.from_numpy(np.repeat(row["semantic"].astype(np.int64), 2))
        sums = masked_loss(model.network, codes.expand(3, -1, -1), semantic.expand(3, -1), mask)
        losses += float(sums.loss.sum())
        tokens += int(sums.tokens.sum())
        correct += int(sums.correct.sum())
    assert found.loss["all"].value == pytest.approx(losses / tokens, rel=1e-5)
    assert found.accuracy["all"].value == pytest.approx(correct / tokens)
    assert found.loss["level 1"].value == found.loss["all"].value
    assert sum(score.tokens for score in found.scores) == tokens
    assert abs(found.loss["all"].value - math.log(8)) < 0.5  # an untrained network knows nothing


def test_small_passes_give_the_same_scores(
    model_folder: Path,
    write_tokens: WriteTokens,
    token_rows: list[Row],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokens = write_tokens(token_rows)
    whole = score(model_folder, tokens, draws=4)
    monkeypatch.setattr(masked_tokens, "FRAMES_AT_ONCE", 1)
    single = score(model_folder, tokens, draws=4)
    assert [(one.id, one.tokens) for one in single.scores] == [
        (one.id, one.tokens) for one in whole.scores
    ]
    assert single.loss["all"].value == pytest.approx(whole.loss["all"].value, rel=1e-5)


def test_order_and_neighbours_do_not_matter(
    model_folder: Path, write_tokens: WriteTokens, token_rows: list[Row]
) -> None:
    forward = score(model_folder, write_tokens(token_rows, name="forward"))
    backward = score(model_folder, write_tokens(token_rows[::-1], name="backward"))
    by_id = {one.id: one for one in backward.scores}
    assert all(by_id[one.id] == one for one in forward.scores)


def test_a_limit_takes_its_rows_from_everywhere(
    model_folder: Path, write_tokens: WriteTokens, token_rows: list[Row]
) -> None:
    tokens = write_tokens([*token_rows[::-1], token_rows[0] | {"id": ""}])

    def scored(**options: Any) -> list[str]:
        return [one.id for one in score(model_folder, tokens, **options).scores]

    assert scored(limit=2) == ["u0", "u1"]
    assert scored(limit=9) == ["u0", "u1", "u2"]
    assert scored(limit=1, among={"u1", "u2"}) == ["u1"]


def test_a_rerun_runs_no_network(
    model_folder: Path,
    write_tokens: WriteTokens,
    token_rows: list[Row],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokens = write_tokens(token_rows)
    first = score(model_folder, tokens, tmp_path / "out")

    def refuse(*arguments: object) -> None:
        raise AssertionError("the network ran again")

    monkeypatch.setattr(masked_tokens, "masked_loss", refuse)
    assert score(model_folder, tokens, tmp_path / "out") == first


def test_a_bad_row_fails_alone(
    model_folder: Path, write_tokens: WriteTokens, token_rows: list[Row]
) -> None:
    token_rows[0]["semantic"] = token_rows[0]["semantic"][:3]
    token_rows[1]["semantic"] = None
    found = score(model_folder, write_tokens(token_rows))
    assert {one.id for one in found.scores} == {"u2"}
    assert [row_id for row_id, _ in found.failures] == ["u0", "u1"]
    assert "not of one utterance" in found.failures[0][1]


def test_other_tokens_are_refused(
    model_folder: Path, write_tokens: WriteTokens, token_rows: list[Row], tone_codec: Codec
) -> None:
    foreign = replace(tone_codec.spec, fingerprint="f" * 64)
    with pytest.raises(DataMismatch, match="do not fit"):
        score(model_folder, write_tokens(token_rows, acoustic=foreign))
