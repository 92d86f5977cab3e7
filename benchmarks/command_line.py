"""What the commands of all benchmarks share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any


def positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """A type of argparse: a number of a kind, `int` or `float`, that is above 0."""

    def number_above_zero(text: str) -> Any:
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return number_above_zero


def say(text: str) -> None:
    """Tell the user, on standard error."""
    print(text, file=sys.stderr, flush=True)
