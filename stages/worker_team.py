"""Worker processes that answer requests in order, whatever dies.

Each worker has a pipe of its own whose other end only this process holds, so that the death of
either is an end of file to the other, even in the middle of a message. (The pool of
`concurrent.futures` shares one pipe for results, and waits for ever for the rest of a message
whose sender was killed.)
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from stages.errors import StageFailure

Request = TypeVar("Request")
Answer = TypeVar("Answer")

PATIENCE = 10.0
"""Seconds in which a process that waits for work is to end of itself."""

AHEAD = 4
"""Requests in flight for each worker: enough to even out long and short ones, little memory."""


class WorkerTeam(Generic[Request, Answer]):
    """Processes that outlive a call, since a stage works through many small parts of a set."""

    def __init__(
        self, prepare: Callable[..., Callable[[Request], Answer]], *arguments: Any, does: str
    ) -> None:
        """Start nothing yet.

        Args:
            prepare: called in each process with `arguments`; gives what answers a request. A
                function of a module, so that it can be named to a fresh process.
            arguments: its own.
            does: what a worker does, for the message of its death: `reads audio`.
        """
        self._prepare, self._arguments, self._does = prepare, arguments, does
        self._idle: list[_Worker] = []

    def map(self, requests: Sequence[Request], *, workers: int) -> Iterator[tuple[int, Answer]]:
        """Answer requests in order, each with its index, at most `workers * AHEAD` ahead.

        Raises:
            StageFailure: if a worker process dies, for want of memory or by a signal.
        """
        workers = min(workers, len(requests))
        team = [self._idle.pop() if self._idle else self._start() for _ in range(workers)]
        room = threading.Semaphore(workers * AHEAD)
        left = threading.Event()

        def send() -> None:
            """In a thread: a worker that waits for us to take an answer takes no request."""
            for index, request in enumerate(requests):
                room.acquire()
                if left.is_set():
                    return
                try:
                    everyone[index % workers].send(request)
                except OSError:  # it died, as who waits for its answer is told
                    return
                except Exception as error:  # no request that can be sent: as if it had died
                    unsent.append(error)
                    everyone[index % workers].stop()
                    return

        unsent: list[Exception] = []
        everyone = list(team)
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        try:
            for index in range(len(requests)):
                answer = team[index % workers].receive()
                room.release()
                if index + 1 == len(requests):  # a caller may not come back after the last answer
                    self._idle += team
                    team = []
                yield index, answer
        except (EOFError, OSError):
            if unsent:
                raise unsent[0] from None
            raise StageFailure(
                f"a process that {self._does} died, killed or out of memory: use fewer --workers"
            ) from None
        finally:
            left.set()
            room.release()
            for worker in team:  # still owe answers, or are dead: of no use to the next call
                worker.end()
            sender.join()
            for worker in team:
                worker.dismiss()

    def end(self) -> None:
        """Stop the processes that wait for work; the next call starts new ones."""
        for worker in self._idle:
            worker.dismiss()
        while self._idle:
            self._idle.pop().end(patience=PATIENCE)

    def _start(self) -> _Worker:
        return _Worker(self._prepare, self._arguments)


class _Worker:
    """One process and our end of its pipe."""

    def __init__(self, prepare: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        # Never fork: torch's threads hold locks that a forked child would wait on for ever.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_serve, args=(theirs, prepare, arguments), daemon=True
        )
        # A terminal's Ctrl-C reaches the child, too, long before that can ignore it; what is
        # blocked here is inherited. The tracker, which the first child starts, would unblock it.
        _start_tracker()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
        self.send, self.receive = self._pipe.send, self._pipe.recv

    def dismiss(self) -> None:
        """Let the process end of itself once it has nothing to do, and clear up behind it."""
        self._pipe.close()

    def stop(self) -> None:
        """Stop the process, whatever it does, and do not wait for its end."""
        self._process.terminate()

    def end(self, *, patience: float = 0.0) -> None:
        """Stop the process, whatever it still does after so many seconds."""
        self._process.join(patience)
        self.stop()
        self._process.join()


def _start_tracker() -> None:
    """Start what clears up behind processes, to do so in silence: workers may be ended by force."""
    silent = "ignore::UserWarning:multiprocessing.resource_tracker"
    sys.warnoptions.append(silent)  # it is a process of its own, with our options
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(silent)


def _serve(pipe: Connection, prepare: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """The life of a worker: until its parent closes the pipe, or dies."""
    _tie_to_parent()
    answer = prepare(*arguments)
    try:
        while True:
            pipe.send(answer(pipe.recv()))
    except (EOFError, OSError):
        return


def _tie_to_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it does, in the middle of work, too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
