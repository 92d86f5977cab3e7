"""Decoding and resampling in worker processes, ahead of the network and in order."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from stages.audio.reading import Waveform, read_audio
from stages.errors import RowFailure, StageFailure

_AHEAD = 4
"""Files in flight for each worker: enough to even out long and short ones, little memory."""

# One pool for each worker count lives until the program ends: starting its processes takes longer
# than reading a small shard.
_pools: dict[int, ProcessPoolExecutor] = {}


def read_ahead(
    paths: Sequence[str | None],
    *,
    sample_rate: int | None,
    channels: int | None = 1,
    workers: int = 0,
) -> Iterator[tuple[int, Waveform | RowFailure]]:
    """Read files as `read_audio` does, in order, each with its index in `paths`.

    Args:
        paths: of audio files; None, for a row that has none, gives a RowFailure.
        sample_rate: Hz to resample to, or None.
        channels: to mix down or repeat to, or None.
        workers: processes to read in, at most `workers * 4` files ahead; 0 reads in this one.

    Raises:
        StageFailure: if a worker process dies, for want of memory or by a signal.
    """
    # A handful of files is read before a process could have started.
    if workers < 1 or len(paths) < _AHEAD:
        for index, path in enumerate(paths):
            yield index, _read(path, sample_rate, channels)
        return
    pool = _pool(workers)
    pending: deque[Future[Waveform | RowFailure]] = deque()
    try:
        for index in range(len(paths)):
            for path in paths[index + len(pending) : index + workers * _AHEAD]:
                pending.append(pool.submit(_read, path, sample_rate, channels))
            yield index, pending.popleft().result()
    except BrokenProcessPool:
        _pools.pop(workers, None)
        raise StageFailure(
            "a process that reads audio died, killed or out of memory: use fewer --workers"
        ) from None
    finally:
        for future in pending:
            future.cancel()


def _read(path: str | None, sample_rate: int | None, channels: int | None) -> Waveform | RowFailure:
    """`read_audio`, with its failure as a value, so that neighbours go on."""
    if not path:
        return RowFailure("the row names no audio file")
    try:
        return read_audio(path, sample_rate=sample_rate, channels=channels)
    except RowFailure as failure:
        return failure


def _pool(workers: int) -> ProcessPoolExecutor:
    if workers not in _pools:
        # Never fork: torch's threads hold locks that a forked child would wait on for ever.
        _pools[workers] = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=tie_to_parent,
        )
    return _pools[workers]


def tie_to_parent() -> None:
    """Make this worker process leave Ctrl-C to its parent, and end when its parent does.

    A parent killed outright closes no queue, so its workers would wait on theirs for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
