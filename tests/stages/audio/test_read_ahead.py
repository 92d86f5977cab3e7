"""Reading ahead: order, failures as values, and workers that die."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from stages.audio.read_ahead import _pools, read_ahead
from stages.audio.sources import find_utterances
from stages.errors import RowFailure, StageFailure


@pytest.fixture(autouse=True)
def _no_pool_outlives_its_test() -> object:
    yield
    while _pools:
        _pools.popitem()[1].shutdown(cancel_futures=True)


def test_workers_give_what_this_process_gives(corpus: Path, tmp_path: Path) -> None:
    paths: list[str | None] = [row["audio"] for row in find_utterances([str(corpus)])]
    paths[2:2] = [None, str(tmp_path / "missing.wav")]
    here = list(read_ahead(paths, sample_rate=16_000, workers=0))
    there = list(read_ahead(paths, sample_rate=16_000, workers=1))
    assert [index for index, _ in there] == list(range(len(paths)))
    for (_, one), (_, other) in zip(here, there, strict=True):
        if isinstance(one, RowFailure):
            assert str(one) == str(other)
        else:
            assert not isinstance(other, RowFailure)
            np.testing.assert_array_equal(one.samples, other.samples)
    assert [isinstance(item, RowFailure) for _, item in here[2:4]] == [True, True]


def test_a_worker_that_dies_is_a_sentence_not_a_hang(speech_wav: Path) -> None:
    reader = read_ahead([str(speech_wav)] * 200, sample_rate=16_000, workers=1)
    next(reader)
    for process in _pools[1]._processes.values():
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(StageFailure, match="process that reads audio died"):
        list(reader)
    # The next call starts afresh.
    assert len(list(read_ahead([str(speech_wav)] * 4, sample_rate=None, workers=1))) == 4


def test_leaving_early_drops_what_is_pending(speech_wav: Path) -> None:
    reader = read_ahead([str(speech_wav)] * 50, sample_rate=16_000, workers=1)
    next(reader)
    reader.close()
    assert len(list(read_ahead([str(speech_wav)] * 5, sample_rate=None, workers=1))) == 5
