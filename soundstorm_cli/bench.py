"""`soundstorm bench`: how fast this machine does it, and how fast it could."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from soundstorm_cli.common import (
    DeviceOption,
    JsonOption,
    QuietOption,
    finish,
    pick_device,
    say,
)
from stages.errors import DataMismatch

if TYPE_CHECKING:
    from fractions import Fraction

    from stages.speed.bench import Bench
    from stages.speed.measured import Result

NAME = "bench"
JSON_NAME, MARKDOWN_NAME = "bench.json", "bench.md"
ROOFLINE_NAME, GROWTH_NAME = "roofline.png", "growth.png"


def bench(
    tasks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TASK",
            help="decode, train, tokenize, vocode, shards, startup, pipe; all by default.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o",
            help=f"A folder for {MARKDOWN_NAME}, {JSON_NAME} and, with matplotlib, "
            f"{ROOFLINE_NAME} and {GROWTH_NAME}.",
        ),
    ] = None,
    presets: Annotated[
        str, typer.Option("--presets", metavar="LIST", help="Of decode and train.")
    ] = "mini,base,350m",
    seconds: Annotated[
        str | None,
        typer.Option(
            "--seconds", metavar="LIST",
            help="Of audio in a row, for decode, train, tokenize and vocode; by default 5,10,30 "
            "for decode and vocode, 5 for train, 10 for tokenize.",
        ),
    ] = None,
    batches: Annotated[
        str | None,
        typer.Option(
            "--batches", metavar="LIST",
            help="Rows, for the same; by default 1,8, and 1 for vocode.",
        ),
    ] = None,
    precisions: Annotated[
        str,
        typer.Option(
            "--precisions", metavar="LIST",
            help="Of decode (float32, float32-packed, int8, bfloat16, float16) and train (float32, "
            "bfloat16); a task leaves out what it has not.",
        ),
    ] = "float32",
    levels: Annotated[
        str, typer.Option("--levels", metavar="LIST", help="Of decode and train.")
    ] = "12",
    iterations: Annotated[
        list[str] | None,
        typer.Option(
            "--iterations", metavar="LIST",
            help="Passes of decode's levels, by default 16,1; may be repeated.",
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Runs of a cell, if its budget allows.")
    ] = 5,
    budget_seconds: Annotated[
        float,
        typer.Option(
            "--budget-seconds", min=0.1,
            help="What the measured runs of a cell may take together; a longer decoding is "
            "extrapolated from fewer passes.",
        ),
    ] = 15.0,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="torch's own number by default.")
    ] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Measure speed: times, memory, and the share of what this machine's matrix products reach.

    Each cell (a task, a preset, a length, a batch, a precision, a number of levels and their
    passes) has a process of its own. Weights are random and audio is made up, since time does not
    depend on them. Leave the machine alone meanwhile.
    """
    from stages.shards.writer import require_writable
    from stages.soundstorm.schedule import PAPER_ITERATIONS
    from stages.speed.bench import bench as run_bench
    from stages.speed.cells import TASKS, Choice
    from stages.speed.work import Limits

    choice = Choice(
        tasks=tasks or TASKS,
        presets=_names(presets, "--presets"),
        seconds=None if seconds is None else _lengths(seconds),
        batches=None if batches is None else _numbers(batches, "--batches"),
        precisions=_names(precisions, "--precisions"),
        levels=_numbers(levels, "--levels"),
        iterations=list(dict.fromkeys(iterations or (PAPER_ITERATIONS,))),
    )
    device = pick_device(device)
    if output is not None:
        require_writable(Path(output))
    found = run_bench(
        choice,
        Limits(budget=budget_seconds, repeats=repeats),
        device=device,
        threads=threads,
        tell=lambda result: _tell(result, quiet=quiet),
    )
    if not as_json and not (quiet and output is not None):
        from stages.speed.tables import bench_markdown

        print(bench_markdown(found), flush=True)  # before anything can go wrong in writing
    if output is not None:
        _write(found, Path(output), quiet=quiet)
    finish(
        found.to_json() | {"output": output},
        failed=found.failed,
        keep_going=False,
        as_json=as_json,
    )


def _write(found: Bench, folder: Path, *, quiet: bool) -> None:
    """The files; a picture that is not drawn leaves none of an earlier run's behind."""
    from stages.shards.writer import atomic_path
    from stages.speed.tables import bench_markdown

    with atomic_path(folder / JSON_NAME) as path:
        path.write_text(json.dumps(found.to_json(), indent=2) + "\n")
    with atomic_path(folder / MARKDOWN_NAME) as path:
        path.write_text(bench_markdown(found) + "\n", encoding="utf-8")
    if find_spec("matplotlib") is None:
        for name in (ROOFLINE_NAME, GROWTH_NAME):
            (folder / name).unlink(missing_ok=True)
        say(
            f"{NAME}: no {ROOFLINE_NAME} and no {GROWTH_NAME}: matplotlib is not installed "
            "(pip install 'soundstorm[eval]')",
            quiet=quiet,
        )
        return
    from stages.speed.figures import draw_growth, draw_roofline

    for draw, name, lack in (
        (draw_roofline, ROOFLINE_NAME, "nothing that was measured has known products"),
        (draw_growth, GROWTH_NAME, "no two cells differ in length, batch or levels alone"),
    ):
        if not draw(found, folder / name):
            (folder / name).unlink(missing_ok=True)
            say(f"{NAME}: no {name}: {lack}", quiet=quiet)


def _tell(result: Result, *, quiet: bool) -> None:
    from stages.speed.tables import number

    found = result.measured
    if found is None:
        say(f"{NAME}: {result.cell.words()}: not measured: {result.why_not}", quiet=quiet)
        return
    about = "about " * found.extrapolated
    share = "" if found.share is None else f", {100 * found.share:.0f} % of peak"
    say(f"{NAME}: {result.cell.words()}: {about}{number(found.seconds)} s{share}", quiet=quiet)


def _names(text: str, option: str) -> list[str]:
    names = list(dict.fromkeys(part.strip() for part in text.split(",")))
    if not all(names):
        raise DataMismatch(f"{option} {text!r} is no list with commas between")
    return names


def _numbers(text: str, option: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise DataMismatch(f"{option} {text} is no list of whole numbers from 1 on, such as 1,8")
    return list(dict.fromkeys(numbers))


def _lengths(text: str) -> list[Fraction]:
    from fractions import Fraction

    try:
        lengths = [Fraction(part) for part in text.split(",")]
    except (ValueError, ZeroDivisionError):
        lengths = [Fraction(0)]
    if min(lengths) < Fraction(1, 25):  # a semantic token's
        raise DataMismatch(f"--seconds {text} is no list of lengths of audio, such as 5,10,30")
    return list(dict.fromkeys(lengths))
