"""The `soundstorm` command: its subcommands, and how every error ends."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from soundstorm_cli.ablate import ablate
from soundstorm_cli.bench import bench
from soundstorm_cli.decode import decode
from soundstorm_cli.eval_mos import eval_mos
from soundstorm_cli.evaluate import evaluate
from soundstorm_cli.fit_kmeans import fit_kmeans
from soundstorm_cli.generate_semantic import generate_semantic
from soundstorm_cli.inspect import inspect
from soundstorm_cli.report import report
from soundstorm_cli.tokenize_acoustic import tokenize_acoustic
from soundstorm_cli.tokenize_semantic import tokenize_semantic
from soundstorm_cli.train import train
from soundstorm_cli.vocode import vocode
from stages.errors import SoundStormError, StageFailure
from stages.version import __version__


class _StandardOutput(io.FileIO):
    """Standard output, whose errors are told from those of other files."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            # What is still in buffers would fail once more at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            raise StageFailure(f"standard output cannot be written ({error.strerror})") from error


class _Commands(TyperGroup):
    """Commands whose name may be two words: `eval mos` beside `eval INPUT`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        two_words = " ".join(args[:2])
        if two_words in self.commands:
            return two_words, self.commands[two_words], args[2:]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="soundstorm",
    cls=_Commands,
    help="Composable stages for parallel audio generation: audio to semantic and acoustic tokens, "
    "a SoundStorm model between them, and sound again.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,  # plain help starts twice as fast
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130
PIPE_CLOSED = 141
TERMINATED = 143


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"soundstorm {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Composable stages for parallel audio generation."""


app.command("fit-kmeans")(fit_kmeans)
app.command("tokenize-semantic")(tokenize_semantic)
app.command("tokenize-acoustic")(tokenize_acoustic)
app.command("train")(train)
app.command("generate-semantic")(generate_semantic)
app.command("decode")(decode)
app.command("vocode")(vocode)
app.command("eval")(evaluate)
app.command("eval mos")(eval_mos)
app.command("ablate")(ablate)
app.command("report")(report)
app.command("bench")(bench)
app.command("inspect")(inspect)


def run(arguments: list[str] | None = None) -> None:
    """Run the command line; every error that a user can cause is one sentence.

    Exit codes: 0 done, 1 failed, 2 wrong usage or data that does not fit, 130 on Ctrl-C, 143 on
    SIGTERM.
    """
    _prepare_streams()
    try:
        with _heeding_termination():
            code = app(arguments, standalone_mode=False)
    except SoundStormError as error:
        code = _complain(str(error), error.exit_code)
    except typer.Abort:
        code = INTERRUPTED
    except KeyboardInterrupt:
        code = _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        code = PIPE_CLOSED
    except SystemExit as ended:  # click's own answer to a closed pipe is 1
        closed = isinstance(ended.__context__, BrokenPipeError)
        code = PIPE_CLOSED if closed else ended.code
        if code == TERMINATED:
            _complain("terminated", TERMINATED)
    except Exception as error:
        code = _usage_error(error)
    _leave(code if isinstance(code, int) else 0)


@contextmanager
def _heeding_termination() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does; `train` has its own way while it trains."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield  # no other may set handlers
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _prepare_streams() -> None:
    """Stand in for closed standard streams, and let standard output tell its errors.

    A closed stream's number would go to the next file opened, and what is meant for the stream
    with it. What is written to standard output must fail then, while messages may be lost.
    """
    for name, access in (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, access)
            if name != "stdin":  # commands ask whether there is one
                setattr(sys, name, os.fdopen(handle, "w", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.__stdout__ in (None, sys.stdout):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_StandardOutput(sys.stdout.fileno(), "w", closefd=False)),
            encoding=sys.stdout.encoding,
            errors=sys.stdout.errors,
            line_buffering=sys.stdout.line_buffering or sys.stdout.write_through,
        )


def _usage_error(error: Exception) -> int:
    """Click's own errors, in its own words; anything else is our bug and keeps its traceback."""
    show = getattr(error, "show", None)
    if show is None:
        raise error
    show()
    return int(getattr(error, "exit_code", 2))


def _complain(sentence: str, code: int) -> int:
    print(f"soundstorm: {sentence}", file=sys.stderr)
    return code


def _leave(code: int) -> None:
    """Exit, without Python's complaint if what standard output still holds cannot be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or PIPE_CLOSED
    except StageFailure as error:
        code = _complain(str(error), code or error.exit_code)
    sys.exit(code)


if __name__ == "__main__":
    run()
