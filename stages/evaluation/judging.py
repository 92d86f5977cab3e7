"""Judging utterances, in this process or in workers, with the same scores in the same order.

Everything runs on one thread of its process: sums of floats depend on how many threads share them,
and the bytes of a report must not. Cores are used by judging several utterances at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.errors import RowFailure, SoundStormError
from stages.evaluation.measure import Clip, Measure, Scores, Utterance
from stages.evaluation.systems import Player
from stages.worker_team import WorkerTeam

Verdict = Scores | RowFailure

WORTH_WORKERS = 32
"""Clips below which the start of worker processes, some seconds, is not worth its while."""

MOST_WORKERS = 8
"""By default, since each has a copy of every model in memory."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One utterance, and who is to judge which of its clips."""

    utterance: Utterance

    parcels: Mapping[str, Any]
    """By system: what its player needs."""

    prompt_seconds: Mapping[str, float]
    """By system."""

    recording: Any
    """What the recordings' player needs."""

    against: frozenset[str]
    """Systems that are held against the recording."""

    jobs: Sequence[tuple[str, int]]
    """System and index of the measure."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What judges: it can travel to a worker process before it has judged anything."""

    measures: Sequence[Measure]

    players: Mapping[str, Player]
    """By system."""

    play_recording: Player | None

    def judge(self, request: Request) -> Iterator[Verdict]:
        """The verdicts on a request's jobs, in their order.

        Raises:
            DataMismatch: if a measure's model cannot be loaded.
        """
        recording = _Once(lambda: self._recording(request))
        clips = {
            name: Clip(
                request.utterance,
                partial(self.players[name], parcel),
                prompt_seconds=request.prompt_seconds[name],
                load_recording=recording if name in request.against else None,
            )
            for name, parcel in request.parcels.items()
        }
        for name, index in request.jobs:
            try:
                yield self.measures[index].score(clips[name])
            except RowFailure as failure:
                yield failure

    def _recording(self, request: Request) -> NDArray[np.float32]:
        assert self.play_recording is not None
        return self.play_recording(request.recording)


class _Once:
    """A recording that is loaded once for all systems of an utterance."""

    def __init__(self, load: Callable[[], NDArray[np.float32]]) -> None:
        self._load = load
        self._samples: NDArray[np.float32] | None = None

    def __call__(self) -> NDArray[np.float32]:
        if self._samples is None:
            self._samples = self._load()
        return self._samples


class Panel:
    """A bench here, or a copy of it in each of several processes."""

    def __init__(self, bench: Bench, workers: int) -> None:
        """Start nothing yet: where every score is known, no process is needed.

        Args:
            bench: what judges.
            workers: processes; 0 judges in this one.
        """
        self._bench, self._workers = bench, workers
        self._team: WorkerTeam[Request, list[Verdict] | SoundStormError]
        self._team = WorkerTeam(_prepare, bench, does="judges speech")

    @property
    def at_once(self) -> int:
        """How many requests to hand over together so that no process waits long."""
        return 16 * max(1, self._workers)

    def judge(self, requests: Sequence[Request]) -> Iterator[Iterable[Verdict]]:
        """The verdicts on each request, in order.

        Raises:
            DataMismatch: if a measure's model cannot be loaded.
            StageFailure: if a worker process dies.
        """
        if not self._workers:
            with one_thread():
                yield from map(self._bench.judge, requests)
            return
        for _, answer in self._team.map(requests, workers=self._workers):
            if isinstance(answer, SoundStormError):
                raise answer
            yield answer

    def __enter__(self) -> Panel:
        return self

    def __exit__(self, *error: object) -> None:
        self._team.end()


def default_workers(clips: int, cores: int, device: str) -> int:
    """How many processes to judge with: none on a GPU, which one process keeps busy.

    Args:
        clips: utterances times systems.
        cores: that this process may use.
        device: where models run.
    """
    if device != "cpu" or clips < WORTH_WORKERS or cores < 2:
        return 0
    return min(cores, MOST_WORKERS)


def _prepare(bench: Bench) -> Callable[[Request], list[Verdict] | SoundStormError]:
    """What a worker does with a request."""
    torch.set_num_threads(1)

    def judge(request: Request) -> list[Verdict] | SoundStormError:
        try:
            return list(bench.judge(request))
        except SoundStormError as error:
            return error

    return judge


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold torch to one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
