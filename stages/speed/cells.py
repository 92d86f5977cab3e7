"""What is measured: a task at a preset, length, batch, precision, number of levels, schedule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from typing import Any

from stages.errors import DataMismatch
from stages.soundstorm.schedule import PAPER_ITERATIONS, parse_iterations
from stages.speed.precisions import known_precisions
from stages.speed.shapes import LEVELS
from stages.training.presets import preset

DECODE, TRAIN, TOKENIZE, VOCODE = "decode", "train", "tokenize", "vocode"
SHARDS, STARTUP, PIPE = "shards", "startup", "pipe"

TASKS = (DECODE, TRAIN, TOKENIZE, VOCODE, SHARDS, STARTUP, PIPE)
"""In the order in which they are measured."""

PARTS = {
    TOKENIZE: ("codec mini", "semantic mini", "k-means mini"),
    VOCODE: ("codec mini", "Griffin-Lim"),
    SHARDS: ("shards",),
    STARTUP: ("commands",),
    PIPE: ("decode and vocode",),
}
"""Of the tasks that know no preset: what is measured of each."""


FINEST = 1_000_000
"""Lengths of audio are fractions of a second with denominators up to this."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One thing to measure."""

    task: str

    what: str
    """A preset, or a part of `PARTS`."""

    seconds: Fraction = Fraction(0)
    """Of audio in each row."""

    batch: int = 1
    """Rows."""

    precision: str = "float32"

    levels: int = LEVELS
    """Q, of the acoustic tokens."""

    iterations: str = PAPER_ITERATIONS
    """Passes of each level of a decoding."""

    @property
    def audio(self) -> Fraction:
        """Seconds of audio in all."""
        return self.seconds * self.batch

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "seconds": float(self.seconds)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Cell:
        """What `to_json` gave; the seconds are again the fraction that they were."""
        seconds = Fraction(value["seconds"]).limit_denominator(FINEST)
        return Cell(**{**value, "seconds": seconds})

    def words(self) -> str:
        """Which it is, for a line of a terminal."""
        text = f"{self.task} {self.what}"
        if self.seconds:
            text += f", {float(self.seconds):g} s"
        if self.batch > 1:
            text += f" x {self.batch}"
        if self.precision != "float32":
            text += f", {self.precision}"
        if self.levels != LEVELS:
            text += f", {self.levels} levels"
        return text + (f", {self.iterations}" if self.iterations != PAPER_ITERATIONS else "")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What of all there is to measure; None is each task's own default."""

    tasks: Sequence[str] = TASKS

    presets: Sequence[str] = ("mini", "base", "350m")

    seconds: Sequence[Fraction] | None = None
    """Of audio in a row."""

    batches: Sequence[int] | None = None

    precisions: Sequence[str] = ("float32",)
    """Of what has precisions at all."""

    levels: Sequence[int] = (LEVELS,)
    """Q, for `decode` and `train`."""

    iterations: Sequence[str] = (PAPER_ITERATIONS,)
    """Passes of each level, for `decode`."""

    def __post_init__(self) -> None:
        for task in self.tasks:
            if task not in TASKS:
                raise DataMismatch(f"there is nothing called {task} to measure: {', '.join(TASKS)}")
        for name in self.presets:
            preset("soundstorm", name)  # says which there are
        for passes in self.iterations:
            for levels in self.levels:
                parse_iterations(passes, levels)  # says what is wrong
        for name in self.precisions:
            if not any(name in known_precisions(task) for task in self.tasks):
                known = sorted({name for task in self.tasks for name in known_precisions(task)})
                raise DataMismatch(
                    f"{' and '.join(self.tasks)} cannot be measured in {name}: "
                    f"--precisions can be {', '.join(known)}"
                )


LENGTHS = {
    DECODE: (Fraction(5), Fraction(10), Fraction(30)),
    TRAIN: (Fraction(5),),
    TOKENIZE: (Fraction(10),),
    VOCODE: (Fraction(5), Fraction(10), Fraction(30)),
    SHARDS: (Fraction(10),),
    STARTUP: (Fraction(1),),
    PIPE: (Fraction(5),),
}
"""Seconds of audio in a row, unless others are asked for."""

BATCHES = {DECODE: (1, 8), TRAIN: (1, 8), TOKENIZE: (1, 8), VOCODE: (1,)}
"""Rows, unless others are asked for."""

ROWS = {SHARDS: 512, STARTUP: 1, PIPE: 6}
"""Rows of the tasks that have no batches."""


def cells_of(choice: Choice) -> list[Cell]:
    """All that is to be measured, in order; a task leaves out the precisions it does not know."""
    return [cell for task in TASKS if task in choice.tasks for cell in _of_task(task, choice)]


def _of_task(task: str, choice: Choice) -> Iterator[Cell]:
    if task in ROWS:
        for what in PARTS[task]:
            yield Cell(task=task, what=what, seconds=LENGTHS[task][0], batch=ROWS[task])
        return
    lengths = sorted(LENGTHS[task] if choice.seconds is None else choice.seconds)
    batches = sorted(BATCHES[task] if choice.batches is None else choice.batches)
    sizes = [
        Cell(task=task, what="", seconds=seconds, batch=batch)
        for batch in batches
        for seconds in lengths
    ]
    if task in PARTS:
        yield from (replace(size, what=what) for what in PARTS[task] for size in sizes)
        return
    schedules = choice.iterations if task == DECODE else (PAPER_ITERATIONS,)
    precisions = filter(known_precisions(task).__contains__, choice.precisions)
    for what, precision, levels, iterations, size in product(
        choice.presets, precisions, sorted(choice.levels), schedules, sizes
    ):
        yield replace(size, what=what, precision=precision, levels=levels, iterations=iterations)
