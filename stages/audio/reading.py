"""Reading one file of speech: any rate, channel count and format that libsndfile knows.

Imports neither torch nor Arrow, since reader processes import it afresh.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from stages.errors import RowFailure

MIN_SECONDS = 0.025
"""One analysis window: no encoder and no codec can make a frame of less."""


@dataclass(frozen=True, kw_only=True)
class Waveform:
    """Speech, decoded and resampled."""

    samples: NDArray[np.float32]
    """`[C, N]`, nominally in [-1, 1], all finite."""

    source_samples: int
    """Samples a channel in the file, before resampling."""

    source_rate: int
    """Hz of the file."""


def read_audio(path: str | None, *, sample_rate: int | None, channels: int | None = 1) -> Waveform:
    """Decode a file, then fit it to a rate and a channel count.

    Args:
        path: of a wav, flac, ogg, opus or mp3 file; its content decides, not its suffix. None or
            empty where a row names none.
        sample_rate: Hz to resample to, or None to keep the file's.
        channels: to mix down (mean) or to repeat to, or None to keep the file's.

    Returns:
        `[C, N]` with N = ceil(source samples * sample_rate / source rate).

    Raises:
        RowFailure: if there is no path, or the file is missing, empty, truncated (but not an Ogg
            file between two of its pages), damaged, no audio, shorter than `MIN_SECONDS`, or has
            samples that are no finite numbers.
    """
    if not path:
        raise RowFailure("the row names no audio file")
    if "://" in path:
        raise RowFailure(f"{path} is a URI: only files on this machine can be read")
    samples, rate = _decode(path)  # [N, C]
    count = len(samples)
    if count < MIN_SECONDS * rate:
        raise RowFailure(
            f"{path} lasts {count / rate:.4f} s ({count} samples): at least {MIN_SECONDS} s is "
            "needed"
        )
    if not np.isfinite(samples).all():
        raise RowFailure(f"{path} has samples that are NaN or infinite")
    if channels is not None and samples.shape[1] != channels:
        samples = samples.mean(axis=1, keepdims=True, dtype=np.float32)  # [N, 1]
        samples = np.repeat(samples, channels, axis=1)
    if sample_rate is not None and sample_rate != rate:
        samples = resample(samples, rate, sample_rate)
    return Waveform(samples=np.ascontiguousarray(samples.T), source_samples=count, source_rate=rate)


def audio_seconds(path: str) -> float:
    """How long a file's header says it is.

    Raises:
        RowFailure: if it cannot be read, or does not say.
    """
    try:
        information = soundfile.info(path)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError):
        raise RowFailure(f"{path} cannot be decoded as audio") from None
    if information.frames == _UNKNOWN_FRAMES:
        raise RowFailure(f"{path} does not say how long it is: encode it to a file again")
    return float(information.frames / information.samplerate)


def resample(samples: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
    """Resample `[N, C]` from one rate to another (Hz) into `[ceil(N * target / rate), C]`."""
    length = -(-len(samples) * target // rate)
    resampled = soxr.resample(samples, rate, target, quality="HQ")[:length]
    missing = length - len(resampled)
    return np.pad(resampled, ((0, missing), (0, 0))) if missing else resampled


def _decode(path: str) -> tuple[NDArray[np.float32], int]:
    """Decode to `[N, C]` float32 and the rate in Hz."""
    try:
        if Path(path).is_dir():
            raise RowFailure(f"{path} is a folder, not a file")
        if Path(path).stat().st_size == 0:
            raise RowFailure(f"{path} is empty: it has zero bytes")
        with soundfile.SoundFile(path) as file:
            promised = file.frames
            if promised == _UNKNOWN_FRAMES:
                raise RowFailure(f"{path} does not say how long it is: encode it to a file again")
            samples = file.read(dtype="float32", always_2d=True)
            rate = file.samplerate
        truncated = len(samples) < promised or _ends_early(path)
    except FileNotFoundError:
        raise RowFailure(f"{path} does not exist") from None
    except OSError as error:
        raise RowFailure(f"{path} cannot be opened: {error.strerror or error}") from None
    except MemoryError:
        raise RowFailure(
            f"{path} says that it is longer than memory: cut it or encode it again"
        ) from None
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
        raise RowFailure(f"{path} cannot be decoded as audio: {reason}") from None
    if truncated:
        raise RowFailure(f"{path} is truncated: it ends before its header says it does")
    return samples, rate


_UNKNOWN_FRAMES = (1 << 63) - 1
"""What libsndfile says of a FLAC file that was written to a pipe."""

_MAX_OGG_PAGE = 27 + 255 + 255 * 255
_UNKNOWN_WAV_LENGTH = 0x7FFFF000
"""Writers to a pipe cannot know the length and leave one this large (or larger)."""


def _ends_early(path: str) -> bool:
    """Whether a WAV or Ogg file is shorter than it says; libsndfile reads such files in silence."""
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        magic = file.read(12)
        if magic[:4] in (b"RIFF", b"RF64") and magic[8:] == b"WAVE":
            return _wav_ends_early(file, size)
        if magic[:4] == b"OggS":
            file.seek(max(0, size - 2 * _MAX_OGG_PAGE))
            return _ogg_page_ends_early(file.read())
    return False


def _wav_ends_early(file: BinaryIO, size: int) -> bool:
    """Whether the chunk of samples goes past the end of the file."""
    position, large = 12, 0
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"ds64":  # RF64's lengths: of the file, then of the samples
            large = int.from_bytes(file.read(16)[8:], "little")
        if name == b"data":
            length = length if length < _UNKNOWN_WAV_LENGTH else large
            return bool(position + 8 + length > size)
        position += 8 + length + length % 2
    return False


def _ogg_page_ends_early(tail: bytes) -> bool:
    """Whether the last page of an Ogg file is cut.

    Not whether it says that it is the last: Android's recorder never does.
    """
    start = tail.rfind(b"OggS")
    if start < 0:
        return False
    page = tail[start:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    segments = page[26]
    return len(page) < 27 + segments + sum(page[27 : 27 + segments])
