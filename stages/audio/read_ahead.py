"""Decoding and resampling in worker processes, ahead of the network and in order.

Each worker has a pipe of its own whose other end only this process holds, so that the death of
either is an end of file to the other, even in the middle of a message. (The pool of
`concurrent.futures` shares one pipe for results, and waits for ever for the rest of a message
whose sender was killed.)
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from stages.audio.reading import Waveform, read_audio
from stages.errors import RowFailure, StageFailure

_AHEAD = 4
"""Files in flight for each worker: enough to even out long and short ones, little memory."""


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
    team = [_idle.pop() if _idle else _Worker() for _ in range(workers)]
    done = False
    try:
        sent = 0
        for index in range(len(paths)):
            for path in paths[sent : index + workers * _AHEAD]:
                team[sent % workers].send((path, sample_rate, channels))
                sent += 1
            yield index, team[index % workers].receive()
        done = True
    finally:
        for worker in team:
            # One that still owes results, or is dead, is of no use to the next call.
            if done:
                _idle.append(worker)
            else:
                worker.end()


Request = tuple[str | None, int | None, int | None]


class _Worker:
    """One process that answers requests in order."""

    def __init__(self) -> None:
        # Never fork: torch's threads hold locks that a forked child would wait on for ever.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def send(self, request: Request) -> None:
        try:
            self._pipe.send(request)
        except OSError:
            raise _death() from None

    def receive(self) -> Waveform | RowFailure:
        try:
            result: Waveform | RowFailure = self._pipe.recv()
        except (EOFError, OSError):
            raise _death() from None
        return result

    def end(self) -> None:
        """Stop the process, whatever it is doing."""
        self._pipe.close()
        self._process.terminate()
        self._process.join()


# Workers outlive the call that started them: a stage reads many small parts of a set.
_idle: list[_Worker] = []


def end_workers() -> None:
    """Stop the processes that wait for work; the next call starts new ones."""
    while _idle:
        _idle.pop().end()


def _death() -> StageFailure:
    return StageFailure(
        "a process that reads audio died, killed or out of memory: use fewer --workers"
    )


def _serve(pipe: Connection) -> None:
    """The life of a worker: until its parent closes the pipe, or dies."""
    tie_to_parent()
    try:
        while True:
            pipe.send(_read(*pipe.recv()))
    except (EOFError, OSError):
        return


def tie_to_parent() -> None:
    """Make this worker process leave Ctrl-C to its parent, and end when its parent does.

    A parent killed outright closes no queue that its workers hold, too, and ends no work in hand.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _read(path: str | None, sample_rate: int | None, channels: int | None) -> Waveform | RowFailure:
    """`read_audio`, with its failure as a value, so that neighbours go on."""
    if not path:
        return RowFailure("the row names no audio file")
    try:
        return read_audio(path, sample_rate=sample_rate, channels=channels)
    except RowFailure as failure:
        return failure
