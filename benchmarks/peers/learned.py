"""What each model learned from the same tokens in as many steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.cells import theirs
from benchmarks.peers.measure import OUR_NAME, Side, ours
from benchmarks.peers.sizes import SMALL, shape_of
from stages.assets import MINI
from stages.errors import DataMismatch

BATCH, WINDOW = 8, 150
"""Windows of a step, and their frames: 3 s at 50 Hz, shorter than most utterances."""

ROWS, LONGEST = 16, 250
"""Held-out rows that are asked about, and frames of them."""

WEIGHT_DECAY = 1e-3


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Token shards with semantic and acoustic tokens."""

    train: str

    valid: str

    codec: str | None = None
    """That made the acoustic tokens: ours is trained once more, from its codebooks and `kmeans`."""

    kmeans: str | None = None
    """That made the semantic tokens."""


def tokens_of_speech(speech: Path, work: Path, run: Callable[[Side], Any]) -> Tokens:
    """Tokenize a folder of folders, one a speaker: the last is held out.

    Raises:
        DataMismatch: if there are not two.
    """
    speakers = sorted(path for path in speech.iterdir() if path.is_dir())
    if len(speakers) < 2:
        raise DataMismatch(f"{speech} has no two folders to train on and to hold out")
    parts = {"train": speakers[:-1], "valid": speakers[-1:]}
    return Tokens(
        codec=MINI,
        kmeans=MINI,
        **{
            name: run(
                ours("tokenize", inputs=[str(path) for path in part], folder=str(work / name))
            )["shards"]
            for name, part in parts.items()
        },
    )


def compare(
    tokens: Tokens, steps: int, peer: Path, work: Path, run: Callable[[Side], Any]
) -> dict[str, Any]:
    """Train ours, then the peer, at the small size, and ask both; ours also from the codec.

    Returns:
        `train_frames`, `valid_rows`, `steps`, `batch`, `window`, and `models` by name: `seconds`,
        `peak_bytes`, and by level `nats` a hidden token, `accuracy` and the `tokens` asked about.
    """
    given = run(
        ours(
            "tokens",
            train=tokens.train,
            valid=tokens.valid,
            codec=tokens.codec,
            kmeans=tokens.kmeans,
            folder=str(work),
            steps=steps,
            batch=BATCH,
            window=WINDOW,
            rows=ROWS,
            longest=LONGEST,
        )
    )
    shape = shape_of("soundstorm", SMALL).to_json()
    shape |= {name: given[name] for name in ("levels", "codebook_size", "semantic_size")}
    spec = {
        "shape": shape,
        "batches": given["batches"],
        "questions": given["questions"],
        "weight_decay": WEIGHT_DECAY,
    }
    sides = [ours("learn", **spec), theirs(peer, "soundstorm-pytorch", "learn", **spec)]
    if given["start"] is not None:
        sides.append(ours("learn", variant="from the codec", **spec, start=given["start"]))
    models = {side.name: _scores(run(side)) for side in sides}
    asked = models[OUR_NAME]["tokens"]
    return {
        "steps": steps,
        "batch": BATCH,
        "window": WINDOW,
        "train_frames": given["train_frames"],
        "valid_rows": given["valid_rows"],
        "models": models,
        "frequencies": [
            nats / max(count, 1) for nats, count in zip(given["frequencies"], asked, strict=True)
        ],
    }


def _scores(result: Mapping[str, Any]) -> dict[str, Any]:
    """Sums as means; what asks nothing of a level has no mean of it."""
    tokens = result["tokens"]
    means = {
        name: [value / max(count, 1) for value, count in zip(result[key], tokens, strict=True)]
        for name, key in (("nats", "nats"), ("accuracy", "correct"))
    }
    total = max(sum(tokens), 1)
    return {
        **means,
        "all_nats": sum(result["nats"]) / total,
        "all_accuracy": sum(result["correct"]) / total,
        "tokens": tokens,
        "seconds": result["seconds"],
        "peak_bytes": result["peak_bytes"],
        "imported_bytes": result["imported_bytes"],
        "parameters": result["parameters"],
        "training_loss": result["training_loss"],
    }
