"""Install the peers, time them beside ours, and write peers.json, peers.md and peers.png.

python -m benchmarks.peers -o out/peers
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.command_line import positive, say
from benchmarks.peers.cells import (
    CELLS,
    OWN_VARIANTS,
    TRAIN_PRECISIONS,
    VARIANTS,
    Cell,
    Choice,
    cells,
    theirs,
)
from benchmarks.peers.environment import DEFAULT, make_environment
from benchmarks.peers.learned import Tokens, compare, tokens_of_speech
from benchmarks.peers.measure import OUR_NAME, ROOT, Limits, Side, interleave, ours, run_once
from benchmarks.peers.report import Measured, Report, markdown, measured, number
from benchmarks.peers.sizes import SMALL, shape_of
from stages.errors import DataMismatch, SoundStormError, StageFailure


def benchmark(
    choice: Choice,
    limits: Limits,
    peer: Path,
    *,
    tokens: Tokens | None,
    steps: int,
    tell: Callable[[str], None] = lambda text: None,
) -> Report:
    """Measure everything; a cell that fails is told and left out.

    Args:
        choice: which cells.
        limits: how much to measure.
        peer: Python of the peers' environment.
        tokens: to learn from; those of `choice.speech` if None.
        steps: of learning.
        tell: is given a line for each cell.
    """

    def run(side: Side) -> dict[str, Any]:
        return run_once(side, limits.threads)

    machine = run(ours("describe"))["machine"]
    versions = run(theirs(peer, "the peers", "versions"))["versions"]
    found: list[Measured] = []
    failures: list[str] = []
    learned = None

    def fail(what: str, error: StageFailure) -> None:
        failures.append(f"{what}: {error}")
        tell(f"not measured: {failures[-1]}")

    def measure(cell: Cell) -> None:
        load = os.getloadavg()[0]
        try:
            found.append(measured(cell, interleave(cell.sides, limits), load))
            tell(_line(found[-1]))
        except StageFailure as error:
            fail(f"{cell.what} ({cell.size})", error)

    with tempfile.TemporaryDirectory(prefix="soundstorm-peers-") as folder:
        work = Path(folder)
        for kind in choice.only:
            try:
                if kind == "learned":
                    known = tokens or tokens_of_speech(choice.speech, work, run)
                    learned = compare(known, steps, peer, work, run)
                else:
                    for cell in cells(kind, choice, peer, work, run):
                        measure(cell)
            except StageFailure as error:
                fail(kind, error)
    return Report(
        machine=machine,
        versions=versions,
        limits=limits,
        cells=found,
        learned=learned,
        failures=failures,
    )


def write(report: Report, folder: Path) -> list[Path]:
    """Write the files; gives their paths. Without matplotlib there is no picture."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "peers.json", folder / "peers.md"]
    written[0].write_text(json.dumps(report.to_json(), indent=2) + "\n")
    written[1].write_text(markdown(report))
    if importlib.util.find_spec("matplotlib") is not None:
        from benchmarks.peers.plot import draw

        written.append(folder / "peers.png")
        draw(report, written[-1])
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; gives its exit code."""
    options = _parser().parse_args(arguments)
    try:
        choice = Choice(
            only=_listed(options.only, CELLS, "--only"),
            sizes=_sizes(options.sizes),
            frames=_frames(options.frames),
            variants=_listed(options.variants, VARIANTS, "--variants"),
            own_variants=(
                _listed(options.own_variants, tuple(OWN_VARIANTS), "--own-variants")
                if options.own_variants
                else []
            ),
            train_precisions=_listed(
                options.train_precisions, TRAIN_PRECISIONS, "--train-precisions"
            ),
            speech=options.speech.absolute(),
        )
        tokens = _tokens(options)
        if not choice.speech.is_dir():
            raise DataMismatch(f"--speech {choice.speech} is no folder of speech")
        limits = Limits(
            threads=options.threads, repeats=options.repeats, budget=options.budget_seconds
        )
        peer = make_environment(options.environment, share=not options.own_torch, tell=say)
        report = benchmark(choice, limits, peer, tokens=tokens, steps=options.steps, tell=say)
        for path in write(report, options.output):
            say(f"wrote {path}")
    except SoundStormError as error:
        say(f"error: {error}")
        return error.exit_code
    return 1 if report.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("-o", "--output", type=Path, default=Path("out/peers"), metavar="DIR")
    add("--only", default=",".join(CELLS), metavar="CELLS", help="which, with commas between")
    add("--sizes", default=f"{SMALL},mini,350m", help="of networks: small, or presets")
    add("--frames", default="500", help="of decodings; of training windows the first")
    add("--variants", default=VARIANTS[0], help="of soundstorm-pytorch: matched, as-it-comes")
    add(
        "--own-variants", default=",".join(OWN_VARIANTS), metavar="LIST",
        help="of our decoding, beside the plain one; the empty text for none",
    )  # fmt: skip
    add(
        "--train-precisions", default=",".join(TRAIN_PRECISIONS), metavar="LIST",
        help="of training steps, on both sides",
    )  # fmt: skip
    add("--repeats", type=positive(int), default=5, help="runs of each side of a cell")
    add(
        "--budget-seconds", type=positive(float), default=60.0,
        help="of a cell's runs together; those of the first round are run whatever they take",
    )  # fmt: skip
    add("--threads", type=positive(int), default=len(os.sched_getaffinity(0)), help="of each side")
    add("--steps", type=positive(int), default=150, help="of learning")
    add("--train", metavar="SHARDS", help="to learn from; tokens of --speech by default")
    add("--valid", metavar="SHARDS", help="to be asked about")
    add("--codec", help="of --train; ours then learns once more, from its codebooks")
    add("--kmeans", help="of --train, and its centroids")
    add("--speech", type=Path, default=ROOT / "examples" / "speech", metavar="DIR")
    add("--environment", type=Path, default=DEFAULT, metavar="DIR", help="of the peers")
    add("--own-torch", action="store_true", help="install a torch there, too (7 GB)")
    return parser


def _listed(text: str, known: Sequence[str], option: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in known:
            raise DataMismatch(f"{option} has no {name}; there are {', '.join(known)}")
    return names


def _sizes(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        shape_of("soundstorm", name)
    return names


def _tokens(options: argparse.Namespace) -> Tokens | None:
    for one, other in (("train", "valid"), ("codec", "kmeans")):
        if (getattr(options, one) is None) != (getattr(options, other) is None):
            raise DataMismatch(f"--{one} and --{other} go together: give both, or neither")
    if options.train is None:
        if options.codec is not None:
            raise DataMismatch("--codec and --kmeans are those of --train and --valid: name these")
        return None
    shards = {name: str(Path(getattr(options, name)).absolute()) for name in ("train", "valid")}
    return Tokens(**shards, codec=options.codec, kmeans=options.kmeans)


def _frames(text: str) -> list[int]:
    try:
        frames = [int(part) for part in text.split(",")]
    except ValueError:
        frames = []
    if not frames or min(frames) < 2:
        raise DataMismatch(f"--frames {text} is no list of numbers of frames, such as 500,1500")
    return frames


def _line(measured: Measured) -> str:
    cell: Cell = measured.cell
    sides = [
        f"{name} {number(side['seconds'] / cell.scale)} {cell.unit}"
        + ("" if name == OUR_NAME else f" ({number(measured.ratio(name))} x)")
        for name, side in measured.sides.items()
    ]
    return f"{cell.size}: {cell.what}: {', '.join(sides)}"


if __name__ == "__main__":
    sys.exit(main())
