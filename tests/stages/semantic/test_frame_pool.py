"""The pool of frames: an even sample that does not depend on order, and everything on disk."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from stages.errors import StageFailure
from stages.semantic.frame_pool import FramePool


def rows(count: int, length: int = 30) -> dict[str, np.ndarray]:
    """Frames whose single number tells which one they are."""
    return {
        f"row{index}": (index * length + np.arange(length, dtype=np.float32))[:, None]
        for index in range(count)
    }


def test_little_stays_in_memory_whole(tmp_path: Path) -> None:
    with FramePool(1, capacity=1000, seed=0, scratch=tmp_path) as pool:
        for name, frames in rows(10).items():
            pool.add(name, frames)
        assert not pool.overflowed
        assert sorted(pool.sample()[:, 0]) == list(range(300))
        assert list(tmp_path.iterdir()) == []


def test_the_sample_is_the_same_in_any_order(tmp_path: Path) -> None:
    samples = []
    for order in (1, -1):
        with FramePool(1, capacity=200, seed=0, scratch=tmp_path) as pool:
            for name, frames in list(rows(40).items())[::order]:
                pool.add(name, frames)
            assert pool.overflowed
            samples.append(pool.sample())
    assert samples[0].shape == (200, 1)
    np.testing.assert_array_equal(samples[0], samples[1])
    assert list(tmp_path.iterdir()) == []


def test_a_pool_of_one_frame_keeps_one() -> None:
    with FramePool(1, capacity=1, seed=0) as pool:
        for name, frames in rows(3).items():
            pool.add(name, frames)
        assert pool.sample().shape == (1, 1)


def test_another_seed_samples_other_frames() -> None:
    chosen = []
    for seed in (0, 1):
        with FramePool(1, capacity=100, seed=seed) as pool:
            for name, frames in rows(20).items():
                pool.add(name, frames)
            chosen.append(set(pool.sample()[:, 0]))
    assert chosen[0] != chosen[1]


def test_the_sample_is_even() -> None:
    with FramePool(1, capacity=2000, seed=0) as pool:
        for name, frames in rows(200).items():
            pool.add(name, frames)
        # A third of 6000: each tenth of the frames gives about a tenth of the sample.
        share = np.histogram(pool.sample(), bins=10, range=(0, 6000))[0]
    assert share.sum() == 2000
    assert share.min() > 150
    assert share.max() < 250


@pytest.mark.parametrize("capacity", [64, 100_000])
def test_blocks_hold_every_frame_once(capacity: int) -> None:
    with FramePool(1, capacity=capacity, seed=0) as pool:
        for name, frames in rows(12).items():
            pool.add(name, frames)
        plain = list(pool.blocks(50))
        shuffled = list(pool.blocks(50, np.random.default_rng(0)))
    assert sorted(np.concatenate(plain)[:, 0]) == list(range(360))
    assert sorted(np.concatenate(shuffled)[:, 0]) == list(range(360))
    assert [block[0, 0] for block in plain] != [block[0, 0] for block in shuffled]


def test_one_row_longer_than_memory() -> None:
    with FramePool(1, capacity=10, seed=0) as pool:
        pool.add("long", np.arange(1000, dtype=np.float32)[:, None])
        assert len(pool.sample()) == 10
        assert len(set(pool.sample()[:, 0])) == 10
        assert sum(map(len, pool.blocks(300))) == 1000


def test_a_file_that_cannot_grow_is_one_sentence(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, hard))
    try:
        with (
            pytest.raises(StageFailure, match="allow more memory"),
            FramePool(1, capacity=10, seed=0, scratch=tmp_path) as pool,
        ):
            pool.add("long", np.zeros((1 << 14, 1), np.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
