"""Processes that answer: order, reuse, and an end of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from pickle import PicklingError

import pytest

from stages.worker_team import WorkerTeam


def _add(number: int) -> Callable[[int], tuple[int, int]]:
    return lambda request: (request + number, os.getpid())


@pytest.fixture
def team() -> Iterator[WorkerTeam[int, tuple[int, int]]]:
    team: WorkerTeam[int, tuple[int, int]] = WorkerTeam(_add, 10, does="adds")
    yield team
    team.end()


def test_whoever_stops_at_the_last_answer_keeps_the_processes(
    team: WorkerTeam[int, tuple[int, int]],
) -> None:
    answers = team.map(range(3), workers=2)
    first = [next(answers)[1] for _ in range(3)]  # and never asks for a fourth
    assert [answer for answer, _ in first] == [10, 11, 12]
    again = [answer for _, answer in team.map(range(2), workers=2)]
    assert {process for _, process in again} == {process for _, process in first}


def test_idle_processes_end_of_themselves(
    team: WorkerTeam[int, tuple[int, int]], new_processes: Callable[[], list[BaseProcess]]
) -> None:
    list(team.map(range(2), workers=2))
    processes = new_processes()
    assert len(processes) == 2
    team.end()
    assert [process.exitcode for process in processes] == [0, 0]  # not by a signal


def test_who_leaves_early_leaves_no_process(
    team: WorkerTeam[int, tuple[int, int]], new_processes: Callable[[], list[BaseProcess]]
) -> None:
    next(team.map(range(20), workers=2))  # the iterator ends with the statement
    assert new_processes() == []


def _beginning(size: int) -> Callable[[bytes], bytes]:
    return lambda request: request[:size]


def test_neither_side_waits_for_ever_where_both_send_more_than_a_pipe_holds() -> None:
    team: WorkerTeam[bytes, bytes] = WorkerTeam(_beginning, 300_000, does="cuts")
    sizes: list[int] = []

    def work() -> None:
        sizes.extend(len(cut) for _, cut in team.map([bytes(500_000)] * 20, workers=2))

    thread = threading.Thread(target=work, daemon=True)  # so that a failure is none that hangs
    thread.start()
    thread.join(timeout=300)
    assert sizes == [300_000] * 20
    team.end()


def test_what_cannot_be_sent_is_told(new_processes: Callable[[], list[BaseProcess]]) -> None:
    team: WorkerTeam[object, object] = WorkerTeam(_beginning, 1, does="cuts")
    with pytest.raises((AttributeError, TypeError, PicklingError)):
        list(team.map([lambda: None], workers=1))
    assert new_processes() == []


def told(script: str, folder: Path) -> tuple[bytes, bytes]:
    """What a script writes to standard output and error, in a fresh process."""
    (folder / "script.py").write_text(script)
    result = subprocess.run(
        [sys.executable, folder / "script.py"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True, check=False,
    )  # fmt: skip
    return result.stdout, result.stderr


INTERRUPTED_AT_ITS_START = """
import multiprocessing, os, signal, threading
from stages.worker_team import WorkerTeam

def prepare():
    return abs

def interrupt():
    while not (children := multiprocessing.active_children()):
        pass
    os.kill(children[0].pid, signal.SIGINT)

if __name__ == "__main__":
    threading.Thread(target=interrupt).start()
    team = WorkerTeam(prepare, does="counts")
    print(list(team.map([-1], workers=1)))
    team.end()
"""


def test_ctrl_c_is_the_parents_from_the_start(tmp_path: Path) -> None:
    """In a fresh process, whose first worker starts more than itself."""
    assert told(INTERRUPTED_AT_ITS_START, tmp_path) == (b"[(0, 1)]\n", b"")


ENDED_WHILE_IT_HOLDS_A_LOCK = """
import multiprocessing
from stages.worker_team import WorkerTeam

def prepare():
    locks.append(multiprocessing.get_context("spawn").Lock())
    return abs

locks = []
if __name__ == "__main__":
    for index, answer in WorkerTeam(prepare, does="counts").map([-1, -2, -3], workers=1):
        print(answer)
        break
"""


def test_nothing_is_said_of_what_an_ended_worker_held(tmp_path: Path) -> None:
    assert told(ENDED_WHILE_IT_HOLDS_A_LOCK, tmp_path) == (b"1\n", b"")


def test_the_parent_takes_ctrl_c_as_before(team: WorkerTeam[int, tuple[int, int]]) -> None:
    def start() -> None:
        list(team.map(range(2), workers=2))
        blocked.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    blocked: list[bool] = []
    handler = signal.getsignal(signal.SIGINT)
    start()
    team.end()
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert blocked == [False, False]
    assert signal.getsignal(signal.SIGINT) is handler
