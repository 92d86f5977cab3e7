"""What every subcommand shares: options, inputs and outputs, progress, and how a run ends."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stages.errors import DataMismatch, SoundStormError

if TYPE_CHECKING:
    from fractions import Fraction

    from stages.evaluation.report import Grid
    from stages.shards.partition import Shard
    from stages.shards.row_stage import RowStage
    from stages.shards.runner import RunResult
    from stages.shards.source import RowSource

SHOWN_FAILURES = 5
_MOST_SECONDS = 24 * 60 * 60

OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output", "-o",
        help="A folder of shards, one .parquet file, or - for an Arrow stream on standard output "
        "(the default where that is a pipe).",
    ),
]  # fmt: skip
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Do only part I of N (0-based) of the input's files, as a job array.",
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Redo what is there already and matches.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print a result object a script can read on standard output.")
]
KeepGoingOption = Annotated[
    bool, typer.Option("--keep-going", help="Exit 0 even if some rows failed.")
]
RowsPerShardOption = Annotated[
    int,
    typer.Option("--rows-per-shard", min=1, help="Rows of an output shard made from audio."),
]
VocoderOption = Annotated[
    str | None,
    typer.Option(
        "--vocoder",
        help="For a codec of mel frames: griffin-lim, plain-griffin-lim (no postfilter), or the "
        "folder of a vocoder or source-filter, or mini; by default the codec's own, else "
        "griffin-lim.",
    ),
]

DeviceOption = Annotated[
    str, typer.Option("--device", help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="Processes that read audio ahead; all cores by default."),
]


def say(text: str, *, quiet: bool = False) -> None:
    """Tell the user something, on standard error."""
    if not quiet:
        print(text, file=sys.stderr)


def resolve_input(inputs: Sequence[str] | None) -> list[str]:
    """The inputs, or standard input where none is named and something is piped in.

    Raises:
        DataMismatch: if none is named and standard input is a terminal.
    """
    if inputs:
        return list(inputs)
    if sys.stdin is None or sys.stdin.isatty():
        raise DataMismatch("no input: name a path, or pipe the output of a stage in")
    return ["-"]


def resolve_output(output: str | None) -> str:
    """The output, or standard output where none is named and it is a pipe or a file.

    Raises:
        DataMismatch: if the data would go to a terminal.
    """
    if output not in (None, "-"):
        return str(output)
    if sys.stdout.isatty():
        raise DataMismatch(
            "standard output is a terminal: give -o a folder, or pipe into the next stage"
        )
    return "-"


def open_inputs(inputs: Sequence[str]) -> RowSource:
    """Token shards, a stream, or audio (files, folders, globs, manifests), as rows.

    Raises:
        DataMismatch: if there is nothing usable there.
    """
    from stages.shards.reader import is_token_set, open_rows

    if list(inputs) == ["-"] or any(map(is_token_set, inputs)):
        return open_rows(inputs)
    from stages.audio.sources import find_utterances
    from stages.shards.source import UtteranceList

    folders = [path for path in map(Path, inputs) if path.is_dir()]
    return UtteranceList(find_utterances(inputs), where=" ".join(inputs), folders=folders)


def refuse_json_with_stream(output: str, *, as_json: bool) -> None:
    """One standard output cannot carry both data and a result object."""
    if as_json and output == "-":
        raise DataMismatch("--json and a stream cannot share standard output: give -o a path")


def parse_seconds(text: str | None, option: str) -> Fraction | None:
    """Read an option's seconds, exactly; None where it is not given.

    Raises:
        DataMismatch: if it is no positive number, or more than a day.
    """
    from fractions import Fraction

    if text is None:
        return None
    try:
        # The size first: a fraction of 1e999999999 would take all memory. 1/3 is no float.
        size = float(Fraction(text) if "/" in text else text)
        if size > _MOST_SECONDS:
            raise DataMismatch(f"{option} {text} is more than a day: give at most {_MOST_SECONDS}")
        seconds = Fraction(text) if size > 0 else Fraction(0)
    except (ValueError, ZeroDivisionError, OverflowError):
        seconds = Fraction(0)
    if seconds <= 0:
        raise DataMismatch(f"{option} {text} is no number of seconds, such as 3")
    return seconds


def pick_device(device: str) -> str:
    """`auto` becomes `cuda` where there is a GPU and `cpu` elsewhere.

    Raises:
        DataMismatch: if the device does not exist here.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        usable = not torch.empty(0, device=device).is_meta
    except (RuntimeError, AssertionError, ImportError):
        usable = False
    if not usable:
        raise DataMismatch(f"there is no device {device} here: use cpu or auto")
    return device


def worker_count(workers: int | None) -> int:
    """Processes to read audio with: what was asked for, or one a core."""
    return workers if workers is not None else len(os.sched_getaffinity(0))


@contextmanager
def progress(
    description: str, total: int | None, *, quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, only where that is a terminal; yields `advance(n)`."""
    if quiet or not sys.stderr.isatty():
        yield lambda amount: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(description, total=total)
        yield lambda amount: bar.advance(task, amount)


def run_with_progress(
    stage: RowStage,
    source: RowSource,
    *,
    output: str,
    shard: Shard | None,
    force: bool,
    quiet: bool,
    rows_per_shard: int = 256,
) -> RunResult:
    """Run a row stage under a progress bar; what may go wrong is `run_row_stage`'s."""
    from stages.allocator import keep_freed_memory
    from stages.shards.runner import run_row_stage

    keep_freed_memory()
    with progress(stage.name, source.num_rows, quiet=quiet) as advance:
        return run_row_stage(
            stage,
            source,
            output=output,
            shard=shard,
            force=force,
            rows_per_shard=rows_per_shard,
            advance=advance,
        )


def finish(result: dict[str, Any], *, failed: int, keep_going: bool, as_json: bool) -> None:
    """Print the result object where asked for, and exit 1 if rows failed.

    Raises:
        typer.Exit: with code 1 if `failed` and not `keep_going`.
    """
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    if failed and not keep_going:
        raise typer.Exit(1)


def say_failures(name: str, failures: Sequence[tuple[str, str]]) -> None:
    """Tell of the first few rows that failed (id, reason), and how many more there are."""
    for row_id, reason in failures[:SHOWN_FAILURES]:
        say(f"{name}: {row_id}: {reason}")
    if len(failures) > SHOWN_FAILURES:
        say(f"{name}: ... and {len(failures) - SHOWN_FAILURES} more failures")


def run_script(name: str, work: Callable[[], Sequence[tuple[str, str]]]) -> int:
    """Do a script's work, which gives the rows that failed (id, reason); gives the exit code."""
    try:
        failures = work()
    except SoundStormError as error:
        say(f"{name}: {error}")
        return error.exit_code
    say_failures(name, failures)
    return 1 if failures else 0


def show_tables(grids: Sequence[Grid], *, to_stderr: bool) -> None:
    """Tables for a terminal, or Markdown for a file or a pipe."""
    stream = sys.stderr if to_stderr else sys.stdout
    if not stream.isatty():
        from stages.evaluation.report import markdown

        print(markdown(grids), end="", file=stream)
        return
    from rich.console import Console

    from stages.evaluation.report import rich_tables

    console = Console(file=stream)
    for table in rich_tables(grids):
        console.print(table)


def finish_rows(
    name: str, result: RunResult, *, keep_going: bool, as_json: bool, quiet: bool
) -> None:
    """The end of a stage that wrote rows: a summary, its failures, the exit code."""
    say_failures(name, [(line["id"], line["reason"]) for line in result.failures])
    summary = f"{name}: {result.rows} rows"
    if result.output != "-":
        summary += f" in {result.shards_written} shards to {result.output}"
        summary += f", {result.shards_skipped} shards already done" * bool(result.shards_skipped)
    say(summary, quiet=quiet)
    if result.failed:
        say(f"{name}: {result.failed} rows failed" + _failures_hint(result))
    finish(result.to_json(), failed=result.failed, keep_going=keep_going, as_json=as_json)


def _failures_hint(result: RunResult) -> str:
    if result.output == "-":
        return ""
    name = "failures.jsonl"
    stem = result.output.removesuffix(".parquet")
    path = f"{stem}.{name}" if stem != result.output else f"{result.output.rstrip('/')}/{name}"
    again = "; --force tries those of shards already done again"
    return f" (see {path}{again * (result.failed > len(result.failures))})"
