"""Rows that name audio files to frames: read ahead, one at a time or in bucketed batches."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from stages.audio.bucketing import bucket_by_length
from stages.audio.read_ahead import read_ahead
from stages.audio.reading import Waveform
from stages.errors import RowFailure
from stages.semantic.base import SemanticEncoder

_WINDOW = 8
"""Batches' worth of audio gathered before it is sorted by length into batches."""


@dataclass(frozen=True, kw_only=True)
class EncodedRow:
    """One utterance's frames, before k-means."""

    frames: npt.NDArray[np.float32]
    """`[T, D]`, all finite, T at least 1."""

    samples: npt.NDArray[np.float32]
    """`[N]`, what they were made of, at the encoder's rate."""

    source_samples: int
    """Of the file as it lies on disk, at `source_rate` Hz."""

    source_rate: int


def encode_paths(
    encoder: SemanticEncoder,
    paths: Sequence[str | None],
    *,
    workers: int = 0,
    batch_seconds: float = 0.0,
) -> Iterator[tuple[int, EncodedRow | RowFailure]]:
    """Encode files, each with its index in `paths`, in any order.

    Args:
        encoder: what makes the frames.
        paths: of audio files, or None for a row that has none.
        workers: processes to decode and resample in; 0 does it in this one.
        batch_seconds: audio in one padded batch, in seconds; 0 encodes one utterance at a time,
            which on a CPU is both fastest and exact to the last bit whatever the neighbours are.
    """
    limit = int(min(batch_seconds * encoder.sample_rate, sys.maxsize))
    waiting: list[tuple[int, Waveform]] = []
    gathered = 0
    for index, waveform in read_ahead(paths, sample_rate=encoder.sample_rate, workers=workers):
        if isinstance(waveform, RowFailure):
            yield index, waveform
            continue
        waiting.append((index, waveform))
        gathered += waveform.samples.shape[1]
        if gathered >= limit * _WINDOW:
            yield from _encode_in_batches(encoder, waiting, limit)
            waiting, gathered = [], 0
    yield from _encode_in_batches(encoder, waiting, limit)


def _encode_in_batches(
    encoder: SemanticEncoder, waiting: Sequence[tuple[int, Waveform]], limit: int
) -> Iterator[tuple[int, EncodedRow | RowFailure]]:
    lengths = [waveform.samples.shape[1] for _, waveform in waiting]
    for batch in bucket_by_length(lengths, max_total=limit):
        chosen = [waiting[item] for item in batch]
        encoded = encode_batch(encoder, [waveform for _, waveform in chosen])
        for (index, _), row in zip(chosen, encoded, strict=True):
            yield index, row


def encode_batch(
    encoder: SemanticEncoder, waveforms: Sequence[Waveform]
) -> list[EncodedRow | RowFailure]:
    """Encode mono waveforms at the encoder's rate as one padded batch."""
    lengths = [waveform.samples.shape[1] for waveform in waveforms]
    samples = torch.zeros(len(waveforms), max(lengths))  # [B, N]
    for row, waveform in zip(samples, waveforms, strict=True):
        row[: waveform.samples.shape[1]] = torch.from_numpy(waveform.samples[0])
    frames = encoder.encode(samples, torch.tensor(lengths))
    values = frames.values.float().cpu().numpy()  # [B, T, D]
    return [
        _checked(encoder, waveform, values[index, :count])
        for index, (waveform, count) in enumerate(
            zip(waveforms, frames.lengths.tolist(), strict=True)
        )
    ]


def _checked(
    encoder: SemanticEncoder, waveform: Waveform, frames: npt.NDArray[np.float32]
) -> EncodedRow | RowFailure:
    if len(frames) == 0:
        seconds = waveform.source_samples / waveform.source_rate
        return RowFailure(f"{seconds:.3f} s of audio are too short for a frame of {encoder.name}")
    if not np.isfinite(frames).all():
        return RowFailure(f"{encoder.name} made frames that are NaN or infinite of it")
    return EncodedRow(
        frames=np.ascontiguousarray(frames),
        samples=waveform.samples[0],
        source_samples=waveform.source_samples,
        source_rate=waveform.source_rate,
    )
