"""Reading: formats, rates and channels, and a reason for every bad file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages.audio.reading import read_audio, resample
from stages.errors import RowFailure

FORMATS = {
    "wav": {}, "rf64": {"format": "RF64"}, "flac": {}, "ogg": {}, "mp3": {},
    "opus": {"format": "OGG", "subtype": "OPUS"},
}  # fmt: skip


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_read_and_resampled(
    tmp_path: Path, suffix: str, make_speech: Callable[..., np.ndarray]
) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, make_speech(0.5, sample_rate=48_000), 48_000, **FORMATS[suffix])
    waveform = read_audio(str(path), sample_rate=16_000)
    assert waveform.source_rate == 48_000
    assert waveform.samples.shape == (1, math.ceil(waveform.source_samples / 3))
    assert waveform.source_samples == pytest.approx(24_000, abs=2400)
    assert waveform.samples.dtype == np.float32
    assert np.abs(waveform.samples).max() > 0.05


def test_channels_are_mixed_or_repeated(tmp_path: Path) -> None:
    path = tmp_path / "eight.wav"
    samples = np.tile(np.arange(8) / 10, (1600, 1)).astype(np.float32)
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    mono = read_audio(str(path), sample_rate=None)
    assert mono.samples.shape == (1, 1600)
    np.testing.assert_allclose(mono.samples, 0.35, atol=1e-6)
    assert read_audio(str(path), sample_rate=None, channels=2).samples.shape == (2, 1600)
    np.testing.assert_array_equal(
        read_audio(str(path), sample_rate=None, channels=None).samples, samples.T
    )


@pytest.mark.parametrize(("rate", "target"), [(44_100, 16_000), (8_000, 24_000), (11_025, 48_000)])
def test_resampling_keeps_a_tone_and_gives_the_stated_length(rate: int, target: int) -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)[:, None]
    out = resample(tone, rate, target)
    assert len(out) == math.ceil(rate * target / rate)
    expected = np.sin(2 * np.pi * 1000 * np.arange(target) / target)
    middle = slice(target // 4, 3 * target // 4)
    np.testing.assert_allclose(out[middle, 0], expected[middle], atol=2e-3)


@pytest.mark.parametrize(("count", "reason"), [(0, "how long it is"), (0xFF, "longer than memory")])
def test_a_flac_of_unknown_or_absurd_length_is_a_sentence(
    tmp_path: Path, count: int, reason: str
) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros(800), 16_000)
    data = bytearray(path.read_bytes())
    data[21] = data[21] & 0xF0 | count & 0x0F  # the 36 bits of STREAMINFO that count samples
    data[22:26] = bytes([count]) * 4
    path.write_bytes(data)
    with pytest.raises(RowFailure, match=reason):
        read_audio(str(path), sample_rate=None)


def test_content_decides_not_the_suffix(tmp_path: Path, speech_wav: Path) -> None:
    renamed = tmp_path / "speech.mp3"
    renamed.write_bytes(speech_wav.read_bytes())
    assert read_audio(str(renamed), sample_rate=None).source_samples == 32_000


def bad_files(folder: Path, good: Path) -> dict[str, tuple[Path, str]]:
    """Malformed files and what must be said of each."""
    speech, rate = soundfile.read(good)

    def written(name: str, samples: np.ndarray, **options: str) -> Path:
        soundfile.write(folder / name, samples, rate, **options)
        return folder / name

    def cut(path: Path, share: float = 0.6) -> Path:
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        return path

    def filled(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    broken = speech.copy()
    broken[100] = np.nan
    endless = speech.copy()
    endless[-1] = np.inf
    return {
        "missing": (folder / "missing.wav", "does not exist"),
        "folder": (folder, "is a folder"),
        "zero bytes": (filled("zero.wav", b""), "zero bytes"),
        "text": (filled("text.wav", b"this is no audio, whatever it is called"), "decoded"),
        "header only": (written("none.wav", speech[:0]), "0 samples"),
        "one sample": (written("one.wav", speech[:1]), "0.0001 s"),
        "NaN": (written("nan.wav", broken, subtype="FLOAT"), "NaN"),
        "infinite": (written("inf.wav", endless, subtype="FLOAT"), "NaN or infinite"),
        "truncated wav": (cut(written("cut.wav", speech)), "truncated"),
        "truncated RF64": (cut(written("cut64.wav", speech, format="RF64"), 0.5), "truncated"),
        "truncated flac": (cut(written("cut.flac", speech)), "truncated|decoded"),
        "truncated ogg": (cut(written("cut.ogg", speech)), "truncated"),
        "truncated opus": (
            cut(written("cut.opus", speech, format="OGG", subtype="OPUS")), "truncated",
        ),
        "uri": (Path("s3://bucket/a.wav"), "only files"),
    }  # fmt: skip


def test_every_bad_file_has_a_one_line_reason(tmp_path: Path, speech_wav: Path) -> None:
    for what, (path, reason) in bad_files(tmp_path, speech_wav).items():
        name = "s3://bucket/a.wav" if what == "uri" else str(path)
        with pytest.raises(RowFailure, match=reason) as caught:
            read_audio(name, sample_rate=16_000)
        assert "\n" not in str(caught.value), what
        assert name in str(caught.value), what


def test_a_wav_from_a_pipe_that_knows_no_length_is_read(tmp_path: Path, speech_wav: Path) -> None:
    content = bytearray(speech_wav.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    path = tmp_path / "piped.wav"
    path.write_bytes(content)
    assert read_audio(str(path), sample_rate=None).source_samples == 32_000
