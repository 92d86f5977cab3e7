"""Windows, shares and token batches: functions of the seed and the step, and of nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.errors import DataMismatch
from stages.shards.reader import open_rows
from stages.training.settings import DataSettings
from stages.training.tasks.soundstorm import collate
from stages.training.token_store import build_store, fingerprint_of
from stages.training.windows import WindowSampler, share, speaker_weights

LENGTHS = np.array([5, 40, 100, 7, 60, 1, 33], np.int64)


def sampler(seed: int = 0, batch_size: int = 4, **changes: Any) -> WindowSampler:
    settings = DataSettings(**{"min_seconds": 0.0, "max_seconds": 1.0, **changes})
    return WindowSampler(
        LENGTHS, [None] * len(LENGTHS), units_per_second=50, batch_size=batch_size, seed=seed,
        settings=settings,
    )  # fmt: skip


def test_a_step_s_windows_do_not_depend_on_what_was_asked_before() -> None:
    one, other = sampler(), sampler()
    forwards = [one.windows(step) for step in range(9)]
    backwards = [other.windows(step) for step in reversed(range(9))]
    assert forwards == backwards[::-1]
    assert forwards[0] != forwards[1]
    assert forwards[0] != sampler(seed=1).windows(0)


def test_every_utterance_is_seen_once_an_epoch() -> None:
    drawn = [window.example for step in range(7) for window in sampler().windows(step)]
    for epoch in range(4):
        assert sorted(drawn[7 * epoch : 7 * (epoch + 1)]) == list(range(7))
    assert drawn[:7] != drawn[7:14]


def test_windows_lie_in_their_utterances_and_bounds() -> None:
    drawn = sampler(batch_size=500, min_seconds=0.2, max_seconds=0.6)
    seen = drawn.windows(0)
    for window in seen:
        whole = LENGTHS[window.example]
        assert 0 <= window.start <= whole - window.length
        assert min(10, whole) <= window.length <= min(30, whole)
    assert len({window.seed for window in seen}) == 500
    starts = {window.start for window in seen if window.example == 2}
    assert min(starts) < 10
    assert max(starts) > 60


def test_speakers_are_balanced_by_their_power() -> None:
    speakers = ["a"] * 16 + ["b"] * 4 + [None] * 10
    for power, a, b in ((1.0, 16, 4), (0.5, 4, 2), (0.0, 1, 1)):
        weights = speaker_weights(speakers, power)
        assert weights[:16].sum() == pytest.approx(a)
        assert weights[16:20].sum() == pytest.approx(b)
        assert weights[20:].sum() == pytest.approx((a + b) * 10 / 20)  # their share: 10 of 30
    assert speaker_weights([None, None], 0.5).tolist() == [1.0, 1.0]
    drawn = WindowSampler(
        np.full(20, 10, np.int64), speakers[:20], units_per_second=10, batch_size=4000, seed=0,
        settings=DataSettings(speaker_power=0.0),
    )  # fmt: skip
    counts = Counter(speakers[window.example] for window in drawn.windows(0))
    assert 0.45 < counts["a"] / 4000 < 0.55


@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_are_a_partition_within_budget(world: int) -> None:
    windows = sampler(batch_size=20).windows(0)
    shares = [share(windows, rank=rank, world=world, budget=60) for rank in range(world)]
    dealt = [window for part in shares for batch in part for window in batch]
    assert sorted(window.seed for window in dealt) == sorted(window.seed for window in windows)
    for part in shares:
        for batch in part:
            longest = max(window.length for window in batch)
            assert len(batch) == 1 or len(batch) * longest <= 60


def test_a_window_s_tokens_and_mask_do_not_depend_on_its_neighbours(
    make_task: Callable[..., Any], tmp_path: Path, token_rows: Any
) -> None:
    task = make_task(tmp_path, batch_size=8, micro_batch_seconds=1000.0)
    windows = task.data._sampler.windows(0)
    together = collate(task.store, windows, 3)
    rows = token_rows()
    for index, window in enumerate(windows):
        alone = collate(task.store, [window], 3)
        T = window.length
        assert torch.equal(together.acoustic[index, :T], alone.acoustic[0])
        assert torch.equal(together.semantic[index, :T], alone.semantic[0])
        assert torch.equal(together.mask.masked[index, :T], alone.mask.masked[0])
        assert not together.mask.masked[index, T:].any()
        for name in ("delimiter", "level", "ratio"):
            assert getattr(together.mask, name)[index] == getattr(alone.mask, name)[0]
        expected = rows[window.example]["acoustic"][window.start : window.start + T]
        assert alone.acoustic[0].tolist() == expected.tolist()
        semantic = np.repeat(rows[window.example]["semantic"], 2)[window.start : window.start + T]
        assert alone.semantic[0].tolist() == semantic.tolist()


def test_some_windows_come_without_their_semantic_tokens(
    make_task: Callable[..., Any], tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {"batch_size": 400, "micro_batch_seconds": 1e5}
    plain = make_task(tmp_path / "plain", **sizes)
    dropping = make_task(tmp_path / "drop", **sizes, recipe={"drop_semantic": 0.25})
    assert not plain.config.unconditional
    assert dropping.config.unconditional
    (kept,), (some,) = (task.data.micro_batches(0, 0, 1) for task in (plain, dropping))
    nothing = dropping.config.no_condition
    without = (some.semantic == nothing).all(dim=1)
    assert 60 < int(without.sum()) < 140  # 100 of 400
    assert torch.equal(some.semantic[~without], kept.semantic[~without])
    assert torch.equal(some.mask.masked, kept.mask.masked)  # masks are drawn as ever
    assert not (kept.semantic == nothing).any()
    assert torch.isfinite(dropping.loss("model", some, 0).loss)
    plain.export(tmp_path / "model", plain.network.state_dict(), {})
    dropping.initialise(tmp_path / "model")  # a model that was trained with them may go on without


def test_masks_differ_within_a_batch(make_task: Callable[..., Any], tmp_path: Path) -> None:
    task = make_task(tmp_path, batch_size=30, micro_batch_seconds=1000.0)
    (batch,) = task.data.micro_batches(0, 0, 1)
    assert set(batch.mask.level.tolist()) == {0, 1, 2}
    assert len(set(batch.mask.delimiter.tolist())) > 5
    assert len(set(batch.mask.ratio.tolist())) == 30


def test_rows_that_cannot_be_trained_on_are_left_out_and_counted(
    tmp_path: Path, write_tokens: Any, token_rows: Any
) -> None:
    rows = token_rows(5)
    rows[0]["semantic"] = rows[0]["semantic"][:2]
    rows[1]["acoustic"] = None
    rows[2]["acoustic"] = rows[2]["acoustic"] + 8
    warnings: list[str] = []
    with open_rows(write_tokens(tmp_path / "tokens", rows)) as source:
        key = fingerprint_of(source)
        store = build_store(source, tmp_path / "store", fingerprint=key, warn=warnings.append)
    assert len(store.lengths) == 2
    assert warnings[0].startswith(f"3 rows of {tmp_path / 'tokens'} are not trained on; the first")
    codes, frames = store.slice(1, 3, 4)
    assert frames.tolist() == rows[4]["acoustic"][3:7].tolist()
    assert codes.tolist() == np.repeat(rows[4]["semantic"], 2)[3:7].tolist()
    with open_rows(write_tokens(tmp_path / "none", rows[:3])) as source:
        with pytest.raises(DataMismatch, match="no row that can be trained on"):
            build_store(source, tmp_path / "empty", fingerprint="", warn=warnings.append)
        assert fingerprint_of(source) != key
    assert not (tmp_path / "empty").exists()
