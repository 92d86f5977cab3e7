"""Tokenizing in worker processes, for codecs whose one copy keeps only one core busy."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import torch

from stages.audio.read_ahead import tie_to_parent
from stages.audio.reading import read_audio
from stages.codec.base import Codec
from stages.codec.single import EncodedRow, encode_waveform
from stages.errors import RowFailure, StageFailure

AHEAD = 4
"""Rows handed out for each worker before the first of them is awaited."""


class EncodingPool:
    """Worker processes, each with its own copy of a codec, that read and tokenize files.

    The processes start at the first use and end with this one, however it ends.
    """

    def __init__(self, codec: Codec, *, workers: int) -> None:
        self._codec = (codec.name, codec.levels)
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def encode(self, paths: Sequence[str]) -> Iterator[tuple[int, EncodedRow | RowFailure]]:
        """Each path's index and tokens, in order.

        Raises:
            StageFailure: if a worker process died.
        """
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._workers,
                # Not fork: this process may hold torch's threads and locks.
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start,
                initargs=self._codec,
            )
        pending: deque[tuple[int, Future[EncodedRow | RowFailure]]] = deque()
        try:
            for index, path in enumerate(paths):
                pending.append((index, self._pool.submit(_encode_path, path)))
                if len(pending) >= AHEAD * self._workers:
                    first, future = pending.popleft()
                    yield first, future.result()
            while pending:
                first, future = pending.popleft()
                yield first, future.result()
        except BrokenProcessPool:
            raise StageFailure(
                "a worker process of the codec died, perhaps for want of memory: use fewer "
                "--workers"
            ) from None
        finally:
            for _, future in pending:
                future.cancel()


_codec: Codec | None = None


def _start(name: str, levels: int) -> None:
    """Make a worker: tied to its parent, with a codec of its own."""
    from stages.codec.registry import load_codec

    global _codec
    tie_to_parent()
    torch.set_num_threads(1)
    _codec = load_codec(name, levels=levels)


def _encode_path(path: str) -> EncodedRow | RowFailure:
    assert _codec is not None
    try:
        waveform = read_audio(path, sample_rate=_codec.sample_rate, channels=_codec.channels)
        return encode_waveform(_codec, waveform)
    except RowFailure as failure:
        return failure
