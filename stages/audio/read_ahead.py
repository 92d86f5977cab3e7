"""Decoding and resampling in worker processes, ahead of the network and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from stages.audio.reading import Waveform, read_audio
from stages.errors import RowFailure
from stages.worker_team import AHEAD, WorkerTeam

Request = tuple[str | None, int | None, int | None]
"""Path, sample rate and channels, as `read_audio` takes them."""


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
        workers: processes to read in, at most `workers * AHEAD` files ahead; 0 reads in this one.

    Raises:
        StageFailure: if a worker process dies, for want of memory or by a signal.
    """
    requests = [(path, sample_rate, channels) for path in paths]
    # A handful of files is read before a process could have started.
    if workers < 1 or len(paths) < AHEAD:
        yield from enumerate(map(_read, requests))
    else:
        yield from _team.map(requests, workers=workers)


def end_workers() -> None:
    """Stop the processes that wait for work; the next call starts new ones."""
    _team.end()


def _read(request: Request) -> Waveform | RowFailure:
    """`read_audio`, with its failure as a value, so that neighbours go on."""
    path, sample_rate, channels = request
    try:
        return read_audio(path, sample_rate=sample_rate, channels=channels)
    except RowFailure as failure:
        return failure


def _reader() -> Callable[[Request], Waveform | RowFailure]:
    return _read


_team: WorkerTeam[Request, Waveform | RowFailure] = WorkerTeam(_reader, does="reads audio")
