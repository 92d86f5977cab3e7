"""Reading ahead: order, failures as values, and processes that die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages.audio.read_ahead import end_workers, read_ahead
from stages.audio.sources import find_utterances
from stages.errors import RowFailure, StageFailure


@pytest.fixture(autouse=True)
def _no_worker_outlives_its_test() -> Iterator[None]:
    yield
    end_workers()


@pytest.fixture(scope="module")
def long_wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Longer than a pipe holds, so that a worker is caught in the middle of sending it."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    soundfile.write(path, np.zeros(400_000, np.float32), 16_000)
    return path


def test_workers_give_what_this_process_gives(corpus: Path, tmp_path: Path) -> None:
    paths: list[str | None] = [row["audio"] for row in find_utterances([str(corpus)])]
    paths[2:2] = [None, str(tmp_path / "missing.wav")]
    here = list(read_ahead(paths, sample_rate=16_000, workers=0))
    there = list(read_ahead(paths, sample_rate=16_000, workers=2))
    assert [index for index, _ in there] == list(range(len(paths)))
    for (_, one), (_, other) in zip(here, there, strict=True):
        if isinstance(one, RowFailure):
            assert str(one) == str(other)
        else:
            assert not isinstance(other, RowFailure)
            np.testing.assert_array_equal(one.samples, other.samples)
    assert [isinstance(item, RowFailure) for _, item in here[2:4]] == [True, True]


def test_a_worker_killed_while_it_sends_is_a_sentence_not_a_hang(long_wav: Path) -> None:
    reader = read_ahead([str(long_wav)] * 50, sample_rate=16_000, workers=1)
    next(reader)
    (process,) = multiprocessing.active_children()
    time.sleep(0.2)  # it fills the pipe with its next result, and waits
    os.kill(process.pid or 0, signal.SIGKILL)
    with pytest.raises(StageFailure, match="process that reads audio died"):
        list(reader)
    # The next call starts afresh.
    assert len(list(read_ahead([str(long_wav)] * 4, sample_rate=None, workers=1))) == 4


def test_leaving_early_leaves_no_process_and_no_stale_result(
    long_wav: Path, speech_wav: Path
) -> None:
    reader = read_ahead([str(long_wav)] * 50, sample_rate=16_000, workers=1)
    next(reader)
    reader.close()
    assert multiprocessing.active_children() == []
    again = list(read_ahead([str(speech_wav)] * 5, sample_rate=None, workers=1))
    assert all(result.source_samples == 32_000 for _, result in again)


def test_workers_are_used_again(speech_wav: Path) -> None:
    seen = set()
    for _ in range(2):
        list(read_ahead([str(speech_wav)] * 5, sample_rate=None, workers=1))
        seen.add(tuple(process.pid for process in multiprocessing.active_children()))
    assert len(seen) == 1


def test_workers_end_with_a_parent_that_is_killed(long_wav: Path, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, time\n"
        "from stages.audio.read_ahead import read_ahead\n"
        "if __name__ == '__main__':\n"
        "    reader = read_ahead([sys.argv[1]] * 50, sample_rate=None, workers=1)\n"
        "    next(reader)\n"
        "    print('reading', flush=True)\n"
        "    time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[3]
    parent = subprocess.Popen(
        [sys.executable, str(script), str(long_wav)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"reading\n"
    parent.kill()
    parent.wait()
    # A worker that lived on would hold this pipe open, and the test would never end.
    assert parent.stdout.read() == b""
    parent.stdout.close()
