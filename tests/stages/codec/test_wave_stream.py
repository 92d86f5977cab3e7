"""The header and samples that players get."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import soundfile

from stages.codec.wave_stream import SoundStream, to_pcm, wave_header


@pytest.mark.parametrize("channels", [1, 2])
def test_libsndfile_and_python_read_the_stream(channels: int) -> None:
    sink = io.BytesIO()
    stream = SoundStream(sink, sample_rate=24_000, channels=channels, raw=False)
    pieces = [np.random.default_rng(n).uniform(-1, 1, (channels, 100 + n)) for n in range(3)]
    for piece in pieces:
        stream.write(piece.astype(np.float32))
    whole = np.concatenate(pieces, axis=1)
    sink.seek(0)
    samples, rate = soundfile.read(sink, always_2d=True)
    assert rate == 24_000
    np.testing.assert_allclose(samples.T, whole, atol=1e-4)
    sink.seek(0)
    with wave.open(sink) as reader:
        assert (reader.getnchannels(), reader.getsampwidth()) == (channels, 2)
        assert reader.getframerate() == 24_000


def test_the_header_says_until_the_end() -> None:
    header = wave_header(16_000, 1)
    assert len(header) == 44
    assert header[4:8] == header[40:44] == b"\xff\xff\xff\xff"


def test_raw_has_no_header_and_loud_samples_are_clipped() -> None:
    sink = io.BytesIO()
    SoundStream(sink, sample_rate=8_000, channels=1, raw=True)
    assert sink.getvalue() == b""
    pcm = np.frombuffer(to_pcm(np.array([[1.5, -1.5, 0.0]], np.float32)), "<i2")
    assert pcm.tolist() == [32767, -32767, 0]


def test_channels_are_interleaved() -> None:
    pcm = np.frombuffer(to_pcm(np.array([[1.0, 1.0], [0.0, 0.0]], np.float32)), "<i2")
    assert pcm.tolist() == [32767, 0, 32767, 0]
