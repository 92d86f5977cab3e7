"""What is compared: for each cell, the sides and what each is to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.peers.measure import THEIRS, Side, ours
from benchmarks.peers.sizes import shape_of

CELLS = ("decode", "train", "audiolm", "encodec", "learned")
VARIANTS = ("matched", "as-it-comes")

OWN_VARIANTS: dict[str, dict[str, str]] = {
    "packed": {"precision": "float32-packed"},
    "int8": {"precision": "int8"},
    "greedy": {"iterations": "1"},
    "int8-greedy": {"precision": "int8", "iterations": "1"},
}
"""Of our decoding, which is float32 in the paper's passes if nothing is said."""

TRAIN_PRECISIONS = ("float32", "bfloat16")
"""Of a training step's forward pass, on both sides."""

TRAIN_BATCH = {"350m": 1}
"""Windows of a training step; 4 in other sizes."""

TRAIN_STEPS = {"350m": 1}
"""Steps of a run; 3 in other sizes."""

FILES = 10
"""Of speech that EnCodec is given."""

STRETCH = 4
"""Frames whose tokens AudioLM's stages make."""

CONTEXT = 150
"""Frames that there are in the end: the 3 s that our fine stage takes at once. The peer's takes the
whole utterance, so this is the longest over which both do the same."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One comparison."""

    kind: str
    """Of `CELLS`."""

    what: str
    """What is timed, in words, for the tables."""

    size: str

    sides: Sequence[Side]
    """Ours first."""

    scale: float = 1.0
    """Times in the tables are seconds divided by it."""

    unit: str = "s"
    """Of a time in the tables."""

    audio_seconds: float | None = None
    """Seconds of audio that are gone through, for a rate."""

    same: str | None = None
    """The name of a result in which the sides must agree, where they have it."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was asked for."""

    only: Sequence[str]

    sizes: Sequence[str]

    frames: Sequence[int]

    variants: Sequence[str]
    """Of soundstorm-pytorch."""

    own_variants: Sequence[str]
    """Of our decoding, beside the plain one."""

    train_precisions: Sequence[str]
    """Of `TRAIN_PRECISIONS`."""

    speech: Path
    """Folders of speech, one a speaker: EnCodec's input, and what is learned if nothing else is."""


def cells(
    kind: str, choice: Choice, peer: Path, work: Path, prepare: Callable[[Side], dict[str, Any]]
) -> Iterator[Cell]:
    """The cells of a kind that is timed, in order.

    Args:
        kind: of `CELLS`.
        choice: which.
        peer: Python of the peers' environment.
        work: a folder for what the sides read and write.
        prepare: runs what has to be there first and gives its results.
    """
    if kind == "encodec":
        yield from _encodec(choice, peer, work, prepare)
        return
    for size in choice.sizes:
        yield from {"decode": _decode, "train": _train, "audiolm": _audiolm}[kind](
            choice, size, peer
        )


def theirs(python: Path, name: str, job: str, **spec: Any) -> Side:
    """A run of a peer."""
    return Side(name=name, python=python, module=THEIRS, spec={"job": job, **spec})


def _variants(choice: Choice, python: Path, job: str, **spec: Any) -> list[Side]:
    sides = [ours(job, **spec)]
    for variant in choice.variants:
        name = "soundstorm-pytorch" + ("" if variant == VARIANTS[0] else f", {variant}")
        sides.append(theirs(python, name, job, variant=variant, **spec))
    return sides


def _decode(choice: Choice, size: str, peer: Path) -> Iterator[Cell]:
    shape = shape_of("soundstorm", size).to_json()
    for frames in choice.frames:
        spec: dict[str, Any] = {"shape": shape, "frames": frames}
        yield Cell(
            kind="decode",
            what=f"decoding {frames} frames",
            size=size,
            sides=[
                *_variants(choice, peer, "decode", **spec),
                *(
                    ours("decode", variant=name, **spec, **OWN_VARIANTS[name])
                    for name in choice.own_variants
                ),
            ],
        )


def _train(choice: Choice, size: str, peer: Path) -> Iterator[Cell]:
    shape = shape_of("soundstorm", size).to_json()
    batch, frames = TRAIN_BATCH.get(size, 4), choice.frames[0]
    for precision in choice.train_precisions:
        spec: dict[str, Any] = {
            "shape": shape,
            "batch": batch,
            "frames": frames,
            "steps": TRAIN_STEPS.get(size, 3),
            "precision": precision,
        }
        yield Cell(
            kind="train",
            what=f"a training step, {batch} x {frames} frames, {precision}",
            size=size,
            sides=_variants(choice, peer, "train", **spec),
        )


def _audiolm(choice: Choice, size: str, peer: Path) -> Iterator[Cell]:
    del choice
    for stage in ("coarse", "fine"):
        shape = shape_of(f"audiolm-{stage}", size).to_json()
        spec: dict[str, Any] = {"shape": shape, "frames": CONTEXT, "made": STRETCH}
        yield Cell(
            kind="audiolm",
            what=f"{stage} stage: a token, {CONTEXT} frames in",
            size=size,
            sides=[ours(stage, **spec), theirs(peer, "audiolm-pytorch", stage, **spec)],
            scale=1e-3,
            unit="ms",
        )


def _encodec(
    choice: Choice, peer: Path, work: Path, prepare: Callable[[Side], dict[str, Any]]
) -> Iterator[Cell]:
    # Where torch looks for published weights before it fetches them.
    home = work / "torch"
    checkpoint = home / "hub" / "checkpoints" / "encodec_24khz-d7cc33bc.th"
    folder, made = work / "speech", work / "ecdc"
    made.mkdir(parents=True, exist_ok=True)
    spec: dict[str, Any] = {"checkpoint": str(checkpoint), "folder": str(folder)}
    given = prepare(ours("checkpoint", speech=[str(choice.speech)], limit=FILES, **spec))
    spec |= {"files": given["files"], "output": str(made)}
    ways = {"encodec": "in one process", "encodec-command": "by the command"}
    for job, way in ways.items():
        yield Cell(
            kind="encodec",
            what=f"{len(given['files'])} files, {given['audio_seconds']:.0f} s, {way}",
            size="24 kHz, 6 kbit/s",
            sides=[
                ours(job, **spec),
                replace(
                    theirs(peer, "encodec", job, **spec), environment={"TORCH_HOME": str(home)}
                ),
            ],
            audio_seconds=given["audio_seconds"],
            same="codes",
        )
