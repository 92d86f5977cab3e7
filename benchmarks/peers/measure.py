"""Runs of both sides, turn by turn, each in a process of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.errors import StageFailure

ROOT = Path(__file__).resolve().parents[2]
"""Of the checkout: where `benchmarks` is found."""

OUR_NAME = "ours"
OURS = "benchmarks.peers.ours"
THEIRS = "benchmarks.peers.theirs"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much to measure."""

    threads: int

    repeats: int = 5
    """Rounds of a cell, if the budget allows."""

    budget: float = 60.0
    """Seconds, starts and imports included, within which a cell's rounds must lie; the first
    round is run whatever it takes."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of those that are compared."""

    name: str

    python: Path
    """Of its environment."""

    module: str
    """That does its jobs: `OURS` or `THEIRS`."""

    spec: Mapping[str, Any]
    """What to do, without `threads`."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that only this side has."""


def run_once(side: Side, threads: int) -> dict[str, Any]:
    """One run, and its results.

    Raises:
        StageFailure: with the last line that it wrote, if it fails.
    """
    spec = json.dumps({**side.spec, "threads": threads})
    done = subprocess.run(
        [str(side.python), "-m", side.module, spec],
        cwd=ROOT,
        env={**os.environ, **_environment(threads), **side.environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        last = lines[-1].strip() if lines else "it said nothing"
        raise StageFailure(f"{side.name} ended with {done.returncode}: {last}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _environment(threads: int) -> dict[str, str]:
    """Alike on both sides; libraries that count cores by themselves are told too."""
    count = str(threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **dict.fromkeys(names, count)}


def interleave(
    sides: Sequence[Side],
    limits: Limits,
    *,
    run: Callable[[Side, int], dict[str, Any]] = run_once,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, list[dict[str, Any]]]:
    """Results of each side, by name: A B A B ..., so that what the machine does meanwhile meets
    all of them.

    Another round begins if, taking what the last took, it would end within the budget.

    Raises:
        StageFailure: if a run fails.
    """
    results: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
    began = clock()
    for _ in range(limits.repeats):
        start = clock()
        for side in sides:
            results[side.name].append(run(side, limits.threads))
        end = clock()
        if end - began + (end - start) > limits.budget:
            break
    return results


def summarise(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A side's runs as one: times and memory over all of them, the rest of the first."""
    seconds = [float(run["seconds"]) for run in runs]
    return {
        **runs[0],
        "seconds": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
        "runs": len(seconds),
        "peak_bytes": max(int(run["peak_bytes"]) for run in runs),
    }


def ours(job: str, variant: str | None = None, **spec: Any) -> Side:
    """A run of ours, plain or a variant by name."""
    name = OUR_NAME if variant is None else f"{OUR_NAME}, {variant}"
    return Side(name=name, python=Path(sys.executable), module=OURS, spec={"job": job, **spec})
