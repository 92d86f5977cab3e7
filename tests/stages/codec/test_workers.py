"""Tokenizing in worker processes: what one process gives, and what follows a worker's death."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from stages.audio.reading import read_audio
from stages.codec.registry import load_codec
from stages.codec.single import encode_waveform
from stages.codec.workers import encoding_team
from stages.errors import RowFailure, StageFailure


def test_a_worker_gives_what_this_process_gives_until_it_is_killed(
    tiny_codec: Path,
    speech_wav: Path,
    tmp_path: Path,
    new_processes: Callable[[], list[BaseProcess]],
) -> None:
    codec = load_codec(str(tiny_codec), levels=2)
    team = encoding_team(codec)
    results = dict(team.map([str(speech_wav), str(tmp_path / "missing.wav")], workers=1))
    expected = encode_waveform(codec, read_audio(str(speech_wav), sample_rate=16_000))
    here = results[0]
    assert not isinstance(here, RowFailure)
    np.testing.assert_array_equal(here.codes, expected.codes)
    assert "does not exist" in str(results[1])
    (process,) = new_processes()
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    with pytest.raises(StageFailure, match="process that tokenizes audio died"):
        list(team.map([str(speech_wav)] * 20, workers=1))
    assert new_processes() == []
