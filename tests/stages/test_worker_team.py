"""Processes that answer: order, reuse, and an end of their own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
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
