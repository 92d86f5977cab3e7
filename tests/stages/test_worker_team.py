"""Processes that answer: order, reuse, and an end of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator

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


def test_idle_processes_end_of_themselves(team: WorkerTeam[int, tuple[int, int]]) -> None:
    list(team.map(range(2), workers=2))
    processes = multiprocessing.active_children()
    assert len(processes) == 2
    team.end()
    assert [process.exitcode for process in processes] == [0, 0]  # not by a signal


def test_who_leaves_early_leaves_no_process(team: WorkerTeam[int, tuple[int, int]]) -> None:
    next(team.map(range(20), workers=2))  # the iterator ends with the statement
    assert multiprocessing.active_children() == []
