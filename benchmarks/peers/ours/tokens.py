"""What both models are trained on and asked: windows and questions, from token shards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers.probe import Spec

if TYPE_CHECKING:
    from stages.training.token_store import TokenStore

PEAK_RATE = 1e-3
WARMUP, FINAL_RATIO = 0.1, 0.05
"""Parts: of the steps, over which the rate rises; of the highest rate, to which it then falls."""

WEIGHT_DECAY = 1e-3


def tokenize(spec: Spec) -> dict[str, Any]:
    """Token shards of `inputs`, by the k-means and the codec that ship, in `folder`."""
    folder = Path(spec["folder"])
    semantic, full = folder / "semantic", folder / "full"
    _soundstorm("tokenize-semantic", spec["inputs"], semantic)
    _soundstorm("tokenize-acoustic", [str(semantic)], full)
    return {"shards": str(full)}


def _soundstorm(stage: str, inputs: Sequence[str], output: Path) -> None:
    line = [sys.executable, "-m", "soundstorm_cli.main", stage, *inputs, "-o", str(output)]
    subprocess.run([*line, "--quiet"], check=True)


def write_tokens(spec: Spec) -> dict[str, Any]:
    """Write `batches` and `questions` from token shards.

    Windows are of one length, so there is no padding, and start anywhere in utterances that are
    long enough. Questions are masks as the paper draws them, one of each level a row
    (`stages.evaluation.masked_tokens.draw_masks`), over a row's first frames.
    """
    import numpy as np

    from stages.errors import DataMismatch
    from stages.training.schedule import learning_rate
    from stages.training.settings import OptimiserSettings

    folder = Path(spec["folder"])
    train = _store(spec["train"], folder / "train")
    valid = _store(spec["valid"], folder / "valid")
    train.require_valid(valid, levels=train.acoustic_spec.levels)
    window, steps, batch = spec["window"], spec["steps"], spec["batch"]
    long_enough = np.flatnonzero(train.lengths >= window)
    if not len(long_enough):
        raise DataMismatch(f"no utterance of {spec['train']} has the {window} frames of a window")
    generator = np.random.default_rng(0)
    chosen = generator.choice(long_enough, (steps, batch))
    starts = (generator.random((steps, batch)) * (train.lengths[chosen] - window + 1)).astype(int)
    pairs = [
        train.slice(int(example), int(start), window)
        for example, start in zip(chosen.flat, starts.flat, strict=True)
    ]
    semantic = np.stack([pair[0] for pair in pairs]).reshape(steps, batch, window)
    acoustic = np.stack([pair[1] for pair in pairs]).reshape(steps, batch, window, -1)
    warmup = int(WARMUP * steps)
    settings = OptimiserSettings(
        learning_rate=PEAK_RATE,
        warmup_steps=warmup,
        decay="linear",
        decay_steps=steps - warmup,
        final_ratio=FINAL_RATIO,
    )
    rates = np.array([learning_rate(number, settings) for number in range(steps)])
    np.savez(folder / "batches.npz", semantic=semantic, acoustic=acoustic, rates=rates)
    questions = _questions(valid, spec["rows"], spec["longest"])
    np.savez(folder / "questions.npz", **questions)
    levels = train.acoustic_spec.levels
    return {
        "batches": str(folder / "batches.npz"),
        "questions": str(folder / "questions.npz"),
        "start": _write_start(spec, train, folder / "start.npz"),
        "levels": levels,
        "codebook_size": train.acoustic_spec.codebook_size,
        "semantic_size": train.semantic_spec.codebook_size,
        "train_frames": int(train.offsets[-1]),
        "valid_rows": int(questions["rows"]),
        "frequencies": _frequencies(acoustic, questions, train.acoustic_spec.codebook_size),
    }


def _write_start(spec: Spec, store: TokenStore, file: Path) -> str | None:
    """Where embeddings can start: the codec's codebooks and the k-means' centroids, if named."""
    import numpy as np

    from stages.training.tasks.token_models import centroids_of, codebooks_of

    if spec["codec"] is None:
        return None
    codebooks = codebooks_of(spec["codec"], store.acoustic_spec)
    centroids = centroids_of(spec["kmeans"], store.semantic_spec)
    np.savez(file, codebooks=codebooks.numpy(), centroids=centroids.numpy())
    return str(file)


def _store(shards: str, folder: Path) -> TokenStore:
    from stages.shards.reader import open_rows
    from stages.training.token_store import build_store, fingerprint_of

    with open_rows([shards]) as source:
        fingerprint = fingerprint_of(source)
        return build_store(source, folder, fingerprint=fingerprint, warn=print)


def _questions(store: TokenStore, rows: int, longest: int) -> dict[str, Any]:
    """Rows `r` of arrays: `r/acoustic` `[T, Q]`, `r/semantic` `[T]`, and of B masks `r/given`
    `[B, T, Q]`, `r/masked` `[B, T]`, `r/level` and `r/delimiter` and `r/ratio` `[B]`."""
    import numpy as np
    import torch

    from stages.evaluation.masked_tokens import draw_masks

    levels, mask_token = store.acoustic_spec.levels, store.acoustic_spec.codebook_size
    arrays: dict[str, Any] = {"rows": min(rows, len(store.lengths))}
    for row in range(arrays["rows"]):
        frames = min(int(store.lengths[row]), longest)
        semantic, acoustic = store.slice(row, 0, frames)
        mask = draw_masks(str(row), frames, levels, draws=1, seed=0)
        codes = torch.from_numpy(acoustic.astype(np.int64)).expand(levels, -1, -1)
        given = mask.apply(codes, mask_token).numpy().astype(np.int16)
        named = {"acoustic": acoustic, "semantic": semantic, "given": given}
        drawn = ("masked", "level", "delimiter", "ratio")
        named |= {name: getattr(mask, name).numpy() for name in drawn}
        arrays |= {f"{row}/{name}": value for name, value in named.items()}
    return arrays


def _frequencies(acoustic: Any, questions: dict[str, Any], codebook_size: int) -> list[float]:
    """Summed nats, by level, of guessing by how common each token is in the windows; what a model
    has to beat to have learned anything."""
    import numpy as np

    nats = []
    for level in range(acoustic.shape[-1]):
        counts = np.bincount(acoustic[..., level].ravel(), minlength=codebook_size) + 1.0
        cost = -np.log(counts / counts.sum())
        asked = 0.0
        for row in range(questions["rows"]):
            for example in np.flatnonzero(questions[f"{row}/level"] == level):
                masked = questions[f"{row}/masked"][example]
                asked += float(cost[questions[f"{row}/acoustic"][masked, level]].sum())
        nats.append(asked)
    return nats
