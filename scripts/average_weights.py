"""Average the weights of two models of one shape, one of which was trained on from the other.

    python scripts/average_weights.py before after -o between --share 0.5

What further training gave and what it took can so be had in part each (Wortsman et al. 2022, Robust
fine-tuning of zero-shot models). The second model says what the tokens and the settings were.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from soundstorm_cli.common import run_script
from stages.errors import DataMismatch
from stages.nn.model_file import load_model_file, require_no_model, save_model_file
from stages.nn.saved_weights import as_saved


def average_weights(
    first: Path, second: Path, output: Path, *, share: float, precision: str
) -> list[tuple[str, str]]:
    """Write the folder; nothing of it can fail alone."""
    if not 0 <= share <= 1:
        raise DataMismatch(f"--share {share} is the second model's: give one from 0 to 1")
    require_no_model(output)
    before, after = load_model_file(first), load_model_file(second)
    if (before.kind, before.config, before.tokens) != (after.kind, after.config, after.tokens):
        raise DataMismatch(
            f"{first} and {second} are not models of one kind, shape and tokens: give one and what "
            "was trained on from it"
        )

    def between(name: str) -> Tensor:
        here, there = before.weights[name], after.weights[name]
        if not there.is_floating_point() or torch.equal(here, there):
            return there
        return torch.lerp(here.float(), there.float(), share)

    save_model_file(
        output,
        kind=after.kind,
        config=after.config,
        weights=as_saved({name: between(name) for name in after.weights}, precision),
        tokens=after.tokens,
        extra={
            **after.extra,
            "averaged": {
                "with": before.fingerprint, "share": share, "of": after.fingerprint,
            },
        },
    )  # fmt: skip
    return []


def main() -> int:
    """Read the command line and write the model; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("first", type=Path, help="a model folder")
    parser.add_argument("second", type=Path, help="what was trained on from it")
    parser.add_argument("--output", "-o", type=Path, required=True, help="the folder to write")
    parser.add_argument("--share", type=float, default=0.5, help="of the second, 0 to 1")
    parser.add_argument("--precision", choices=("float32", "float16", "int8"), default="float16")
    asked = parser.parse_args()
    return run_script(
        "average-weights",
        lambda: average_weights(
            asked.first, asked.second, asked.output, share=asked.share, precision=asked.precision
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
