"""What was found as Markdown: a table a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stages.evaluation.report import NOTHING, Grid, markdown
from stages.soundstorm.schedule import PAPER_ITERATIONS
from stages.speed.bench import Bench
from stages.speed.cells import DECODE, PIPE, SHARDS, STARTUP, TASKS, TOKENIZE, TRAIN, VOCODE
from stages.speed.growth import Growth, growths
from stages.speed.measured import Measured, Result


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of a table to be."""

    result: Result

    growth: Growth | None


Column = tuple[str, Callable[[Line], str]]
"""Heading, and what stands below it."""


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def bench_markdown(found: Bench) -> str:
    """All tables."""
    return "\n".join(_blocks(found))


def _blocks(found: Bench) -> Iterator[str]:
    yield "# Speed\n"
    yield from (text + "\n" for text in _preamble(found))
    grown = growths(found.results)
    lines = [
        Line(result=result, growth=growth)
        for result, growth in zip(found.results, grown, strict=True)
    ]
    for task in TASKS:
        own = [line for line in lines if line.result.cell.task == task]
        if own:
            yield f"## {TITLES[task]}\n"
            yield markdown([_grid(own, COLUMNS[task])])
            yield from (f"{text}\n" for text in _reasons(own))


def _preamble(found: Bench) -> Iterator[str]:
    machine, roofs = found.machine, found.roofs
    on = machine.get("accelerator", machine["processor"])
    peaks = ", ".join(
        f"{number(speed / 1e9)} GFLOP/s in {name}" for name, speed in roofs.flops_per_second.items()
    )
    yield (
        f"{on}, {machine['threads']} threads, torch {machine['torch']}. Large matrix products "
        f"reach {peaks}; copying memory moves {number(roofs.bytes_per_second / 1e9)} GB/s."
    )
    if found.busy:
        yield (
            f"**The machine was busy**: {found.load:.1f} processes wanted its {found.cores} cores "
            "before the first measurement. These are times of a busy machine."
        )
    else:
        yield (
            f"Before the first measurement {found.load:.1f} processes wanted its {found.cores} "
            "cores."
        )
    yield (
        f"Seconds are the median of up to {found.limits.repeats} runs that take "
        f"{found.limits.budget:g} s at most; **≈** is extrapolated from the steps that are named. "
        "The share of peak is the time of the work's own matrix products alone, timed beside the "
        "runs, over the time of the work. `docs/speed.md` says how all of it is measured."
    )


def _grid(lines: Sequence[Line], columns: Sequence[Column]) -> Grid:
    return [heading for heading, _ in columns], [[text(line) for _, text in columns]
                                                 for line in lines]  # fmt: skip


def _reasons(lines: Sequence[Line]) -> Iterator[str]:
    for line in lines:
        if line.result.measured is None:
            yield f"Not measured: {line.result.cell.words()}: {line.result.why_not}."


def of_measured(text: Callable[[Measured], str]) -> Callable[[Line], str]:
    """A column that is empty where nothing was measured."""

    def column(line: Line) -> str:
        return NOTHING if line.result.measured is None else text(line.result.measured)

    return column


def _maybe(value: float | None, scale: float = 1.0) -> str:
    return NOTHING if value is None else number(value * scale)


def _seconds(found: Measured) -> str:
    return ("≈ " if found.extrapolated else "") + number(found.seconds)


def _spread(found: Measured) -> str:
    if len(found.times) < 2:
        return ""
    return f"{number(min(found.times))} to {number(max(found.times))}"


def _source(found: Measured) -> str:
    count = len(found.times)
    if found.extrapolated:
        rounds = f", {count} times" if count > 1 else ""
        return f"{found.steps_run} of {found.steps} passes{rounds}"
    return f"{count} run{'s' * (count > 1)}"


def _real_time(line: Line) -> str:
    found, audio = line.result.measured, float(line.result.cell.audio)
    return NOTHING if found is None or not audio else number(found.seconds / audio)


def _share(found: Measured) -> str:
    return NOTHING if found.share is None else f"{100 * found.share:.0f} %"


def _grew(line: Line) -> str:
    return NOTHING if line.growth is None else f"{number(line.growth.seconds)} x"


def _foretold(line: Line) -> str:
    return NOTHING if line.growth is None else f"{number(line.growth.flops)} x"


def _more(name: str, scale: float = 1.0) -> Callable[[Line], str]:
    return of_measured(lambda found: _maybe(found.more.get(name), scale))


def _passes(line: Line) -> str:
    """How many, and of which levels if that is not as in the paper."""
    found, iterations = line.result.measured, line.result.cell.iterations
    if found is None:
        return NOTHING
    named = "" if iterations == PAPER_ITERATIONS else f" ({iterations})"
    return f"{found.steps}{named}"


TITLES = {
    DECODE: "Decoding (`decode`)",
    TRAIN: "Training steps (`train`)",
    TOKENIZE: "Audio to tokens (`tokenize-acoustic`, `tokenize-semantic`)",
    VOCODE: "Tokens to sound (`vocode`)",
    SHARDS: "Token shards",
    STARTUP: "Commands that do next to nothing",
    PIPE: "`soundstorm decode | soundstorm vocode -o -`",
}

WHAT: Column = ("", lambda line: line.result.cell.what)
PRECISION: Column = ("precision", lambda line: line.result.cell.precision)
LEVELS: Column = ("levels", lambda line: str(line.result.cell.levels))
BATCH: Column = ("batch", lambda line: str(line.result.cell.batch))
ROWS: Column = ("rows", lambda line: str(line.result.cell.batch))
AUDIO: Column = ("audio, s", lambda line: f"{float(line.result.cell.seconds):g}")
SECONDS: Column = ("seconds", of_measured(_seconds))
SPREAD: Column = ("fastest to slowest", of_measured(_spread))
SOURCE: Column = ("from", of_measured(_source))
REAL_TIME: Column = ("real-time factor", _real_time)
PASSES: Column = ("passes", _passes)
WORK: Column = ("GFLOP", of_measured(lambda found: _maybe(found.flops, 1e-9)))
SPEED: Column = ("GFLOP/s", of_measured(lambda found: _maybe(found.speed, 1e-9)))
SHARE: Column = ("share of peak", of_measured(_share))
MEMORY: Column = ("memory, MB", of_measured(lambda found: _maybe(found.peak_memory, 1e-6)))
GREW: Column = ("grew", _grew)
FORETOLD: Column = ("by FLOPs", _foretold)

TIMES = (SECONDS, SPREAD, SOURCE)
COSTS = (WORK, SPEED, SHARE, MEMORY, GREW, FORETOLD)

COLUMNS: dict[str, Sequence[Column]] = {
    DECODE: (WHAT, PRECISION, LEVELS, BATCH, AUDIO, *TIMES, REAL_TIME, PASSES, *COSTS),
    TRAIN: (
        WHAT, PRECISION, LEVELS, BATCH, AUDIO, *TIMES, ("tokens/s", _more("tokens_per_second")),
        ("waits for data, %", _more("data_share", 100)), *COSTS,
    ),
    TOKENIZE: (
        WHAT, BATCH, AUDIO, *TIMES, ("rows/s", _more("rows_per_second")), REAL_TIME, *COSTS,
    ),
    VOCODE: (WHAT, BATCH, AUDIO, *TIMES, REAL_TIME, *COSTS),
    SHARDS: (
        WHAT, ROWS, AUDIO, *TIMES, ("rows/s", _more("rows_per_second")),
        ("MB/s of file", _more("file_bytes_per_second", 1e-6)),
    ),
    STARTUP: (WHAT, *TIMES),
    PIPE: (
        WHAT, ROWS, AUDIO, *TIMES, REAL_TIME, ("first sound, s", _more("first_sound")),
        ("first sound, % of the whole", _more("first_sound_share", 100)),
    ),
}  # fmt: skip
"""By task."""
