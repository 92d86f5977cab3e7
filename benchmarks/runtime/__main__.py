"""Measure, and write runtime.json, runtime.md and runtime.png.

python -m benchmarks.runtime -o out/runtime
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from benchmarks.command_line import positive, say
from benchmarks.runtime.autoregressive import Acoustic, Semantic
from benchmarks.runtime.cells import Cell, Limits, Measuring
from benchmarks.runtime.codec import MiniCodec
from benchmarks.runtime.parallel import Parallel
from benchmarks.runtime.report import Report, markdown, number
from benchmarks.runtime.sizes import Size, size_of_preset
from benchmarks.runtime.system import System
from stages.errors import DataMismatch, SoundStormError
from stages.machine import describe


def benchmark(
    sizes: Sequence[Size],
    lengths: Sequence[Fraction],
    limits: Limits,
    device: torch.device,
    tell: Callable[[Cell], None] = lambda cell: None,
) -> Report:
    """Measure everything.

    Args:
        sizes: of the models.
        lengths: seconds of audio, ascending.
        limits: how much to measure.
        device: where.
        tell: is given each cell as it is done.
    """
    cells: list[Cell] = []
    points: list[dict[str, Any]] = []
    for name, system in _systems(sizes, lengths, device):
        measuring = Measuring(system, name, limits, device)
        for cell in measuring.cells(lengths):
            tell(cell)
            cells.append(cell)
        points += measuring.points()
    return Report(machine=describe(device), limits=limits, cells=cells, points=points)


def _systems(
    sizes: Sequence[Size], lengths: Sequence[Fraction], device: torch.device
) -> Iterator[tuple[str, System]]:
    """Each made when its turn comes, since all together need much memory."""
    for size in sizes:
        yield size.name, Semantic(size, lengths, device)
        yield size.name, Acoustic(size, lengths, device)
        yield size.name, Parallel(size, device)
    yield "mini codec", MiniCodec(device)


def write(report: Report, folder: Path) -> list[Path]:
    """Write the files; gives their paths. Without matplotlib there is no picture."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "runtime.json", folder / "runtime.md"]
    written[0].write_text(json.dumps(report.to_json(), indent=2) + "\n")
    written[1].write_text(markdown(report))
    if _can_draw():
        from benchmarks.runtime.plot import draw

        written.append(folder / "runtime.png")
        draw(report, written[-1])
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; gives its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        sizes = [size_of_preset(name) for name in options.sizes.split(",")]
        limits = Limits(budget=options.budget_seconds, repeats=options.repeats)
        if not _can_draw():
            say("matplotlib is not installed: there will be no runtime.png")
        device = torch.device(options.device)
        report = benchmark(sizes, _lengths(options.seconds), limits, device, _tell)
        for path in write(report, options.output):
            say(f"wrote {path}")
    except SoundStormError as error:
        say(f"error: {error}")
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.runtime", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--sizes", default="mini,350m", help="presets, with commas between")
    parser.add_argument("--seconds", default="5,10,20,30", help="of audio, with commas between")
    parser.add_argument(
        "--budget-seconds", type=positive(float), default=60.0,
        help="what the measured runs of a cell may take; a longer one is extrapolated",
    )  # fmt: skip
    parser.add_argument("--repeats", type=positive(int), default=3, help="runs of a cell")
    parser.add_argument("--threads", type=positive(int), help="torch's own number by default")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/runtime"), metavar="DIR")
    return parser


def _lengths(text: str) -> list[Fraction]:
    try:
        lengths = sorted({Fraction(part) for part in text.split(",")})
    except (ValueError, ZeroDivisionError):
        lengths = []
    # A token of 25 a second is the longest there is.
    if not lengths or lengths[0] < Fraction(1, 25):
        raise DataMismatch(f"--seconds {text} is no list of lengths of audio, such as 5,10,20,30")
    return lengths


def _can_draw() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def _tell(cell: Cell) -> None:
    how = f"extrapolated from {number(cell.measured)} s" if cell.extrapolated else "measured"
    say(f"{cell.size}: {cell.label}, {cell.audio:g} s: {number(cell.runtime)} s, {how}")


if __name__ == "__main__":
    sys.exit(main())
