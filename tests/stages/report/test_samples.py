"""Utterances to listen to: which, as what sound, as what picture."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from numpy.typing import NDArray
from PIL import Image

from stages.evaluation.systems import open_system
from stages.report.evaluations import read_evaluations
from stages.report.samples import choose, flac, hear, spectrogram

MakeSpeech = Callable[..., NDArray[np.float32]]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, ""), (1, "u0"), (2, "u0 u5"), (3, "u0 u2 u5"), (6, "u0 u1 u2 u3 u4 u5")],
)
def test_from_the_shortest_to_the_longest(evaluation: Path, count: int, expected: str) -> None:
    read = read_evaluations([str(evaluation)])
    assert choose(read, count) == expected.split()
    assert choose(read, 99) == choose(read, 6)


def test_systems_that_lack_an_utterance_are_told(evaluation: Path) -> None:
    read = read_evaluations([str(evaluation)])
    (evaluation.parent / "greedy" / "u1.wav").write_bytes(b"no sound")
    (evaluation.parent / "codec" / "u1.wav").unlink()
    systems = {
        name: open_system(name, str(evaluation.parent / name))
        for name in ("soundstorm", "greedy", "codec")
    }
    (sample,), missing = hear(["u1"], systems, read)
    assert [clip.label for clip in sample.clips] == ["soundstorm"]
    assert sample.speaker == "s1"
    assert sample.clips[0].seconds == pytest.approx(0.6)
    assert missing[1] == "u1 by codec: it lacks the utterance"
    assert missing[0].startswith("u1 by greedy: ")


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"reference_whisper_base": "two", "reference_torchaudio_ctc": "one"}, "one"),
        ({"reference_is_whisper_base": "transcript", "reference_whisper_base": "two"}, "two"),
        ({"reference_is": "transcript", "reference": "one"}, "one"),
        ({}, None),
    ],
)
def test_a_text_is_found_whoever_judged(
    evaluation: Path, columns: dict[str, str], text: str | None
) -> None:
    path = evaluation / "scores.parquet"
    rows = pq.read_table(path).drop_columns("reference").to_pylist()
    pq.write_table(pa.Table.from_pylist([row | columns for row in rows]), path)
    systems = {"greedy": open_system("greedy", str(evaluation.parent / "greedy"))}
    (sample,), _ = hear(["u1"], systems, read_evaluations([str(evaluation)]))
    assert sample.text == text


def test_sound_is_kept_to_the_last_of_16_bits(make_speech: MakeSpeech) -> None:
    samples = make_speech(0.5)
    read, rate = soundfile.read(io.BytesIO(flac(samples)), dtype="float32")
    assert rate == 16_000
    assert np.abs(read - samples).max() <= 1 / 32768
    louder = soundfile.read(io.BytesIO(flac(3 * samples)), dtype="float32")[0]
    assert np.abs(louder).max() > 0.99  # clipped, not wrapped around


def test_a_spectrogram_shows_where_a_tone_is() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    content, size = spectrogram(tone)
    image = Image.open(io.BytesIO(content))
    assert image.size == size == (50, 100)
    levels = np.asarray(image)[:, 25]
    # Slaney's scale is linear up to 1 kHz, which is mel 15 of 45.2 at 8 kHz; high bands come first.
    assert 99 - int(levels.argmax()) == pytest.approx(100 * 15 / 45.2, abs=1.5)
    assert levels.max() == 255
    assert levels[0] < 128
