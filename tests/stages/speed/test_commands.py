"""Whole commands: what is fed to them, and when sound is first heard."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from stages.assets import MINI, model_folder
from stages.errors import StageFailure
from stages.shards.reader import open_rows
from stages.soundstorm.model import from_model_file
from stages.speed import commands
from stages.speed.cells import Cell
from stages.speed.commands import measure_pipe, measure_startup, write_tokens
from stages.speed.work import Limits

CELL = Cell(task="pipe", what="decode and vocode", seconds=Fraction(1), batch=3)

FAKE = """
import pathlib, sys, time
if "decode" in sys.argv:
    time.sleep({decode})
    sys.exit({code})
sys.stdin.buffer.read()
if "vocode" in sys.argv:
    sys.stdout.buffer.write(b"h" * 44 + b"s" * {samples})
    sys.stdout.buffer.flush()
    time.sleep(0.2)
"""


def pretend(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *, code: int = 0, samples: int = 1
) -> None:
    """Put a program in soundstorm's place that decodes for 0.2 s and then sounds for as long."""
    program = folder / "fake.py"
    program.write_text(FAKE.format(decode=0.2, code=code, samples=samples))
    monkeypatch.setattr(commands, "SOUNDSTORM", (sys.executable, str(program)))


def test_the_model_that_ships_takes_the_tokens(tmp_path: Path) -> None:
    write_tokens(tmp_path / "tokens.parquet", CELL)
    model = from_model_file(model_folder(MINI, "soundstorm"), torch.device("cpu"))
    with open_rows(tmp_path / "tokens.parquet") as source:
        spec = source.provenance.require_tokens("semantic", where="here")
        model.semantic.require_same(spec, ours="mini", theirs="here")
        rows = list(source.rows())
    assert [len(row["semantic"]) for row in rows] == [25, 25, 25]


def test_first_sound_comes_before_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path)
    found = measure_pipe(CELL, Limits(repeats=2), "cpu")
    assert len(found.times) == 2
    assert 0.2 < found.more["first_sound"] < found.seconds - 0.2
    assert 0 < found.more["first_sound_share"] < 1


def test_failures_of_the_pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, code=3)
    with pytest.raises(StageFailure, match=r"decode .* ended with exit code 3"):
        measure_pipe(CELL, Limits(repeats=1), "cpu")
    pretend(monkeypatch, tmp_path, samples=0)
    with pytest.raises(StageFailure, match="made no sound"):
        measure_pipe(CELL, Limits(repeats=1), "cpu")


def test_commands_are_timed_in_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []
    monkeypatch.setattr(commands, "_run", lambda command: ran.append(" ".join(command[-2:])))
    found = measure_startup(CELL, Limits(repeats=3), "cpu")
    assert list(found) == [
        "python -c pass", "soundstorm --help", "python -c 'import torch'",
        "soundstorm decode, 1 row of 1 s",
    ]  # fmt: skip
    assert all(len(one.times) == 3 for one in found.values())
    assert len(ran) == 4 * (1 + 3)
    assert ran[:4] == ran[4:8]


def test_a_command_that_fails_is_no_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, code=2)
    monkeypatch.setattr(commands.sys, "executable", "true")
    with pytest.raises(StageFailure, match="ended with exit code 2"):
        measure_startup(CELL, Limits(repeats=1), "cpu")
