"""A control for what semantic tokens are worth: the same tokens of each row, in a random order.

python scripts/shuffle_semantic.py TOKENS OUTPUT [--keep-seconds 3]

What `soundstorm decode` makes of OUTPUT must be worse than what it makes of TOKENS, or the model
does not listen to its condition. The first seconds stay, so that a prompt still fits its tokens.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from soundstorm_cli.common import say, say_failures
from stages.errors import DataMismatch, RowFailure, SoundStormError
from stages.semantic.frame_pool import row_random
from stages.shards.reader import open_rows
from stages.shards.row_stage import RowResult, RowStage
from stages.shards.rows import SEMANTIC, Row
from stages.shards.runner import RunResult, run_row_stage


class SemanticShuffler(RowStage):
    """Permutes each row's semantic tokens after its first seconds."""

    name = "shuffle-semantic"
    fields = (SEMANTIC,)
    required = ("semantic",)

    def __init__(self, rate: Fraction, *, keep_seconds: Fraction, seed: int) -> None:
        """Tokens come `rate` times a second; with a row's id, `seed` decides its order."""
        self._kept, self._seed = int(keep_seconds * rate), seed
        self.settings = {"keep_seconds": str(keep_seconds), "seed": seed}
        self.models = {}

    def process(self, rows: Sequence[Row]) -> Iterator[RowResult]:
        for index, row in enumerate(rows):
            if row["semantic"] is None:
                yield index, RowFailure("the row has no semantic tokens to shuffle")
                continue
            tokens = np.array(row["semantic"], np.uint16)
            row_random(self._seed, row["id"]).shuffle(tokens[self._kept :])
            yield index, {"semantic": tokens}


def shuffle(tokens: str, output: str, *, keep_seconds: Fraction, seed: int) -> RunResult:
    """Write the shuffled set.

    Raises:
        DataMismatch: if it would lie where its input does.
    """
    with open_rows(tokens) as source:
        target = Path(output).resolve()
        if any(target in (path.resolve(), path.resolve().parent) for path in source.files):
            raise DataMismatch(f"{output} is the input, too: name another folder as the output")
        rate = source.provenance.require_tokens("semantic", where=tokens).frame_rate
        stage = SemanticShuffler(rate, keep_seconds=keep_seconds, seed=seed)
        return run_row_stage(stage, source, output=output)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and write the set; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tokens", help="token shards with semantic tokens")
    parser.add_argument("output", help="folder of the shuffled set")
    parser.add_argument("--keep-seconds", type=Fraction, default=Fraction(3))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    name = SemanticShuffler.name
    try:
        result = shuffle(
            given.tokens, given.output, keep_seconds=given.keep_seconds, seed=given.seed
        )
    except SoundStormError as error:
        say(f"{name}: {error}")
        return error.exit_code
    say_failures(name, [(line["id"], line["reason"]) for line in result.failures])
    print(f"{result.rows} rows to {given.output}")
    return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())
