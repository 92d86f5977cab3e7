"""The paper's bins of length, and where a duration is from."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.audio.reading import audio_seconds
from stages.errors import RowFailure
from stages.evaluation.lengths import length_of, seconds_of


@pytest.mark.parametrize(
    ("seconds", "length"),
    [
        (None, None), (3.99, None), (4.0, "short"), (9.99, "short"), (10.0, "mid"), (19.9, "mid"),
        (20.0, "long"), (30.0, "long"), (30.01, None),
    ],
)  # fmt: skip
def test_bins_have_no_gap_and_no_overlap(seconds: float | None, length: str | None) -> None:
    assert length_of(seconds) == length


def test_a_row_says_how_long_it_is_or_the_header_of_its_file_does(
    speech_wav: Path, tmp_path: Path
) -> None:
    row = {"audio": str(speech_wav), "num_samples": 88_200, "sample_rate": 22_050}
    assert seconds_of(row) == 4.0
    assert seconds_of({"audio": str(speech_wav), "num_samples": None}) == 2.0
    assert seconds_of({"audio": str(tmp_path / "missing.wav")}) is None
    assert seconds_of({"audio": None}) is None


def test_a_file_without_a_duration_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "noise.wav").write_bytes(b"no sound")
    with pytest.raises(RowFailure, match="cannot be decoded as audio"):
        audio_seconds(str(tmp_path / "noise.wav"))
