"""Save a model folder's weights in fewer bits: half as many bytes, or a quarter.

    python scripts/round_weights.py audiolm-fine -o smaller --precision int8

As `train --set saved_precision=int8` saves them. A codec's tokens and a k-means' hang on their very
weights, so those are refused.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from soundstorm_cli.common import run_script
from stages.errors import DataMismatch
from stages.nn.model_file import load_model_file, require_no_model, save_model_file
from stages.nn.saved_weights import as_saved

EXACT = ("codec", "kmeans")
"""Kinds of models whose tokens would be others."""


def round_weights(model: Path, output: Path, precision: str) -> list[tuple[str, str]]:
    """Write the folder; nothing of it can fail alone."""
    require_no_model(output)
    file = load_model_file(model)
    if file.kind in EXACT:
        raise DataMismatch(f"{model} holds a {file.kind}, whose tokens hang on its very weights")
    save_model_file(
        output,
        kind=file.kind,
        config=file.config,
        weights=as_saved(file.weights, precision),
        tokens=file.tokens,
        extra={**file.extra, "rounded_to": precision},
    )
    return []


def main() -> int:
    """Read the command line and write the model; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path, help="a model folder")
    parser.add_argument("--output", "-o", type=Path, required=True, help="the folder to write")
    parser.add_argument("--precision", choices=("float16", "int8"), default="int8")
    asked = parser.parse_args()
    return run_script(
        "round-weights", lambda: round_weights(asked.model, asked.output, asked.precision)
    )


if __name__ == "__main__":
    sys.exit(main())
