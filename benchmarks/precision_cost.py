"""What a precision changes: the same rows decoded, and the same masked tokens asked for.

python -m benchmarks.precision_cost tokens/valid --limit 8 --prompt-seconds 3
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F

from stages.assets import MINI, model_folder
from stages.errors import DataMismatch, SoundStormError
from stages.evaluation.masked_tokens import COLUMNS, draw_masks
from stages.nn.precision import FLOAT32, PRECISIONS
from stages.semantic.rates import align_semantic
from stages.shards.reader import open_rows
from stages.shards.rows import Row
from stages.shards.source import RowSource
from stages.soundstorm.decoder import Decoder
from stages.soundstorm.decoding import DecodeOptions
from stages.soundstorm.model import SoundStormModel, from_model_file
from stages.soundstorm.prompt import OwnPrompt
from stages.soundstorm.schedule import PAPER_ITERATIONS, parse_iterations


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A network's, to masked tokens of some rows, the rest of them given."""

    likeliest: torch.Tensor
    """`[N]` int64: its first choice for each masked token."""

    loss: float
    """Nats a masked token."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a precision changes, against float32."""

    name: str

    tokens: int
    """Tokens of the first level that were generated."""

    first_level: float
    """Share of them that came out otherwise."""

    all_levels: float
    """Share of all levels' tokens that came out otherwise."""

    masked: int = 0
    """Masked tokens that were asked for; 0 where that was left out."""

    first_choices: float = 0.0
    """Share of them whose likeliest candidate is another."""

    loss: float = 0.0
    """Nats a masked token."""

    float32_loss: float = 0.0


def _stage(model: SoundStormModel, seconds: Fraction, seed: int = 0) -> Decoder:
    options = DecodeOptions(iterations=parse_iterations(PAPER_ITERATIONS, model.levels), seed=seed)
    return Decoder(model, options, where="the model", prompt=OwnPrompt(seconds=seconds))


def decoded(
    model: SoundStormModel, rows: Sequence[Row], seconds: Fraction, seed: int = 0
) -> list[np.ndarray]:
    """The generated frames of each row, `[T, Q]`.

    Raises:
        RowFailure: if a row cannot be decoded, say because it is no longer than the prompt.
    """
    stage = _stage(model, seconds, seed)
    found: list[np.ndarray] = [np.empty(0)] * len(rows)
    for index, result in stage.process(rows):
        if isinstance(result, Exception):
            raise result
        found[index] = result["acoustic"][result["prompt_frames"] :]
    return found


@torch.inference_mode()
def answers(model: SoundStormModel, rows: Sequence[Row], seed: int = 0) -> Answers:
    """Ask for masked tokens of every level of every row, one mask at a time, as decoding does."""
    likeliest, loss = [], 0.0
    levels, mask_token = model.levels, model.network.config.mask_token
    for row in rows:
        codes = torch.from_numpy(row["acoustic"].astype(np.int64))[:, :levels]  # [T, Q]
        aligned = align_semantic(
            row["semantic"], model.semantic.frame_rate, len(codes), model.acoustic.frame_rate
        )
        mask = draw_masks(row["id"], len(codes), levels, draws=1, seed=seed)
        hidden = mask.apply(codes.expand(levels, -1, -1), mask_token)  # [Q, T, Q]
        for index, level in enumerate(mask.level.tolist()):
            features = model.network.features(
                hidden[index : index + 1], torch.from_numpy(aligned)[None]
            )
            logits = model.network.head(level, features[0, mask.masked[index]])
            truth = codes[mask.masked[index], level]
            likeliest.append(logits.argmax(dim=-1))
            loss += float(F.cross_entropy(logits, truth, reduction="sum"))
    chosen = torch.cat(likeliest)
    return Answers(likeliest=chosen, loss=loss / max(1, len(chosen)))


def _differing(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], levels: int) -> float:
    """Share of tokens of the first so many levels that differ."""
    pairs = zip(ours, theirs, strict=True)
    different = np.concatenate([(a != b)[:, :levels].ravel() for a, b in pairs])
    return float(different.mean())


def costs(
    folder: str, source: RowSource, precisions: Sequence[str], *, limit: int, seconds: Fraction
) -> list[Cost]:
    """Each precision against float32, after another seed against it: so much is chance.

    Args:
        folder: of the model, or `mini`.
        source: rows with semantic and acoustic tokens.
        precisions: of `stages.nn.precision.PRECISIONS`.
        limit: rows to take, the first that are longer than the prompt.
        seconds: of each row's own tokens that are given.

    Raises:
        DataMismatch: if the tokens are not the model's, or no row is long enough.
    """
    device, where = torch.device("cpu"), model_folder(folder, "soundstorm")
    exact = from_model_file(where, device)
    _stage(exact, seconds).check(source.provenance, source.where)
    least = seconds * exact.acoustic.frame_rate
    fitting = (row for row in source.rows(COLUMNS) if len(row["acoustic"]) > least)
    rows = list(islice(fitting, limit))
    if not rows:
        raise DataMismatch(f"no row of {source.where} lasts longer than {float(seconds):g} s")
    base, asked = decoded(exact, rows, seconds), answers(exact, rows)
    tokens = sum(map(len, base))
    other = decoded(exact, rows, seconds, seed=1)
    found = [
        Cost(
            name="float32, another seed",
            tokens=tokens,
            first_level=_differing(base, other, 1),
            all_levels=_differing(base, other, exact.levels),
        )
    ]
    for precision in precisions:
        model = from_model_file(where, device, precision=precision)
        made, told = decoded(model, rows, seconds), answers(model, rows)
        found.append(
            Cost(
                name=precision,
                tokens=tokens,
                first_level=_differing(base, made, 1),
                all_levels=_differing(base, made, exact.levels),
                masked=len(told.likeliest),
                first_choices=float((told.likeliest != asked.likeliest).float().mean()),
                loss=told.loss,
                float32_loss=asked.loss,
            )
        )
    return found


def markdown(found: Sequence[Cost]) -> str:
    """A table."""
    lines = [
        "| | tokens | level 1 differs | all levels | masked | first choice differs | loss |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for cost in found:
        asked = f"| {cost.masked:,} | {cost.first_choices:.2%} " if cost.masked else "| | "
        change = cost.loss - cost.float32_loss
        loss = f"| {cost.loss:.4f} ({change:+.5f}) |" if cost.masked else "| |"
        lines.append(
            f"| {cost.name} | {cost.tokens:,} | {cost.first_level:.1%} | {cost.all_levels:.1%} "
            f"{asked}{loss}"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.precision_cost", description=__doc__)
    parser.add_argument("tokens", help="shards with semantic and acoustic tokens")
    parser.add_argument("--model", default=MINI)
    parser.add_argument("--precisions", default="int8,bfloat16", help=", ".join(PRECISIONS))
    parser.add_argument("--limit", type=int, default=8, help="rows, the first that are long enough")
    parser.add_argument("--prompt-seconds", type=Fraction, default=Fraction(3))
    chosen = parser.parse_args(arguments)
    names = [name for name in chosen.precisions.split(",") if name != FLOAT32]
    try:
        with open_rows(chosen.tokens) as source:
            found = costs(
                chosen.model, source, names, limit=chosen.limit, seconds=chosen.prompt_seconds
            )
        print(markdown(found), end="")
    except SoundStormError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
