"""What both sides of a comparison share: how a run is told what to do, and what it reports.

A run is a process of its own that does one thing once. It imports nothing but the standard library
from here, so that a peer's environment needs nothing of ours.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

Spec = Mapping[str, Any]
"""What to do: `job`, `threads` and whatever the job needs, as JSON."""

Job = Callable[[Spec], dict[str, Any]]
"""Does it; its results are JSON values, with `seconds` if it was timed."""

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes of `ru_maxrss`'s unit."""


def peak_bytes(who: int = resource.RUSAGE_SELF) -> int:
    """The most memory that the process (or the largest of its children) has had resident."""
    return resource.getrusage(who).ru_maxrss * UNIT


def children_bytes() -> int:
    """`peak_bytes` of the largest child that was waited for."""
    return peak_bytes(resource.RUSAGE_CHILDREN)


class Stopwatch:
    """Seconds of a stretch: `with Stopwatch() as watch: ...; watch.seconds`."""

    seconds: float = 0.0

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self._start


WARM_UP_STEPS = 2
"""Of training, not timed: the first makes the optimiser's memory, the second needs the most."""


def forward_in(precision: str) -> AbstractContextManager[Any]:
    """Around a training step's forward pass: torch's autocast in bfloat16, none in float32."""
    import torch

    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16")


class Passes:
    """When each pass of a generation began; the first is over what is known already."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def mark(self) -> None:
        """A pass begins."""
        self.starts.append(time.perf_counter())

    def summary(self) -> dict[str, Any]:
        """Call it as soon as the last pass has ended.

        Returns:
            `seconds` a pass after the first, `first_seconds`, and `tokens` that the mean is over.
        """
        end = time.perf_counter()
        after = self.starts[1:]
        return {
            "seconds": (end - after[0]) / len(after),
            "first_seconds": after[0] - self.starts[0],
            "tokens": len(after),
        }


def serve(jobs: Mapping[str, Job], arguments: Sequence[str]) -> int:
    """Do the job of a specification and print one line of JSON.

    Whatever else is written to standard output goes to standard error, since libraries print.

    Args:
        jobs: by name.
        arguments: the specification as JSON.
    """
    (text,) = arguments
    spec = json.loads(text)
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    result = jobs[spec["job"]](spec)
    result.setdefault("peak_bytes", peak_bytes())
    sys.stdout.flush()
    with os.fdopen(own, "w") as out:
        out.write(json.dumps(result) + "\n")
    return 0
