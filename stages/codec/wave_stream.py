"""Sound on a pipe, whose end is not known when its header is written."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

UNKNOWN_LENGTH = 0xFFFFFFFF
"""What ffmpeg and sox write, and aplay, ffmpeg, sox and libsndfile read, as "until the end"."""

_BYTES = 2  # of a 16-bit sample


def wave_header(sample_rate: int, channels: int) -> bytes:
    """The 44 bytes before endless 16-bit little-endian PCM."""
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        UNKNOWN_LENGTH,
        b"WAVE",
        b"fmt ",
        16,
        1,  # PCM
        channels,
        sample_rate,
        sample_rate * channels * _BYTES,
        channels * _BYTES,
        8 * _BYTES,
        b"data",
        UNKNOWN_LENGTH,
    )


def to_pcm(samples: npt.NDArray[np.float32]) -> bytes:
    """`[C, N]` in [-1, 1] to interleaved s16le; louder samples are clipped, never wrapped."""
    scaled = np.rint(np.clip(samples, -1.0, 1.0) * 32767.0)
    pcm: bytes = scaled.T.astype("<i2").tobytes()
    return pcm


class SoundStream:
    """Utterances one after another on a binary pipe, each as soon as it is there."""

    def __init__(self, sink: BinaryIO, *, sample_rate: int, channels: int, raw: bool) -> None:
        self._sink = sink
        if not raw:
            sink.write(wave_header(sample_rate, channels))
            sink.flush()  # a player may open its device while the first row is made

    def write(self, samples: npt.NDArray[np.float32]) -> None:
        """Add `[C, N]`."""
        self._sink.write(to_pcm(samples))
        self._sink.flush()
