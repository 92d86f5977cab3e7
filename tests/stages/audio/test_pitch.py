"""The pitch of recordings."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages.audio.pitch import track_pitch, tracking_team
from stages.errors import RowFailure, StageFailure

RATE = 16_000


def glide(seconds: float, low: float, high: float) -> np.ndarray:
    """A voice of ten harmonics, `[N]`, whose pitch rises evenly, with silence on both sides."""
    pitch = np.linspace(low, high, int(seconds * RATE))
    turns = np.cumsum(pitch) / RATE
    voice = sum(np.sin(2 * np.pi * number * turns) / number for number in range(1, 11))
    rest = np.zeros(RATE // 4)
    return np.concatenate([rest, 0.1 * voice, rest]).astype(np.float32)


def test_a_glide_is_tracked_in_its_place() -> None:
    found = track_pitch(glide(1.0, 120, 240), RATE, seconds=0.01, lowest=60, highest=500)
    assert found.dtype == np.float32
    assert len(found) == 151
    true = np.linspace(120, 240, 100)
    middle = slice(5, 95)
    np.testing.assert_allclose(found[25:125][middle], true[middle], rtol=0.01)
    assert not found[:15].any()


def test_workers_answer_for_files_and_for_what_is_none(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "low.wav", glide(0.5, 110, 110), RATE)
    soundfile.write(tmp_path / "high.wav", glide(0.5, 220, 220), RATE)
    (tmp_path / "none.wav").write_bytes(b"RIFF")
    team = tracking_team(RATE, seconds=0.01, lowest=60, highest=500)
    paths = [str(tmp_path / f"{name}.wav") for name in ("low", "none", "high")]
    try:
        low, none, high = (answer for _, answer in team.map(paths, workers=2))
    finally:
        team.end()
    assert isinstance(none, RowFailure)
    assert not isinstance(low, RowFailure)
    assert not isinstance(high, RowFailure)
    assert np.median(low[low > 0]) == pytest.approx(110, rel=0.01)
    assert np.median(high[high > 0]) == pytest.approx(220, rel=0.01)


def test_without_pyworld_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(StageFailure, match=r"soundstorm\[pitch\]"):
        track_pitch(glide(0.1, 110, 110), RATE, seconds=0.01, lowest=60, highest=500)
