"""A SoundStorm's masked-token loss and accuracy, by level and by masking ratio.

Training draws its masks at random, so its losses wobble. Here every utterance gets masks of every
level, decided by its id alone: two models, or two checkpoints, are asked the same questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.errors import DataMismatch, RowFailure
from stages.evaluation.cache import ScoreCache, score_key
from stages.evaluation.comparison import spread
from stages.evaluation.statistics import Estimate, ratio_estimate
from stages.semantic.rates import align_semantic
from stages.shards.provenance import hash_json
from stages.shards.rows import Row, row_problem
from stages.shards.source import RowSource
from stages.soundstorm.loss import masked_loss
from stages.soundstorm.masking import TrainingMask
from stages.soundstorm.model import SoundStormModel, from_model_file
from stages.soundstorm.randomness import row_generator

RATIO_BINS = 4
FRAMES_AT_ONCE = 1 << 14
"""Frames of one pass, all masks together: bounds the memory that long utterances need."""
COLUMNS = ("id", "semantic", "acoustic")


@dataclass(frozen=True, kw_only=True)
class MaskedScore:
    """One mask of one utterance."""

    id: str

    level: int
    """1-based."""

    ratio: float
    """The probability with which a token of the level was masked."""

    tokens: int
    """Masked tokens of the level."""

    loss: float
    """Sum over them, in nats."""

    correct: int
    """Of them, how many the likeliest candidate gets right."""


@dataclass(frozen=True, kw_only=True)
class MaskedTokenScores:
    """A model on a set of tokens."""

    model: str

    scores: list[MaskedScore]

    loss: dict[str, Estimate]
    """Nats a masked token: `all`, `level 1`, ..., `ratio 0.00-0.25`, ..."""

    accuracy: dict[str, Estimate]
    """Fraction of masked tokens, under the same names."""

    failures: list[tuple[str, str]] = field(default_factory=list)


def score_masked_tokens(
    folder: Path,
    source: RowSource,
    cache: ScoreCache,
    *,
    device: str = "cpu",
    draws: int = 1,
    seed: int = 0,
    limit: int | None = None,
    among: Collection[str] | None = None,
    advance: Callable[[int], None] = lambda rows: None,
) -> MaskedTokenScores:
    """Score a model on token shards.

    Args:
        folder: of the model.
        source: rows with semantic and acoustic tokens.
        cache: what is known already; it is added to.
        device: where the network runs.
        draws: masks of each level of each utterance.
        seed: of the masks, with each utterance's id.
        limit: score only so many rows, spread over the sorted ids.
        among: ids that a limit spreads over; None for all.
        advance: told of each finished row.

    Raises:
        DataMismatch: if the tokens are not those that the model speaks.
    """
    model = from_model_file(folder, torch.device(device))
    _require_fit(model, folder, source)
    semantic_rate = model.semantic.frame_rate
    scores: list[MaskedScore] = []
    failures: list[tuple[str, str]] = []
    for row in _chosen(source, limit, among):
        row_id = str(row.get("id") or "")
        try:
            problem = row_problem(row, source.provenance) or _lacks(row)
            if problem is not None:
                raise RowFailure(problem)
            acoustic = row["acoustic"][:, : model.network.config.levels]  # [T, Q]
            semantic = align_semantic(
                row["semantic"], semantic_rate, len(acoustic), model.acoustic.frame_rate
            )
            content = hash_json([acoustic.tolist(), semantic.tolist()])
            key = score_key("masked-tokens", model.fingerprint, row_id, content, draws, seed)
            known = cache.get(key)
            if known is None:
                known = {"masks": _score_row(model, row_id, acoustic, semantic, draws, seed)}
                cache.put(key, known)
            scores += [MaskedScore(id=row_id, **values) for values in known["masks"]]
        except RowFailure as failure:
            failures.append((row_id, f"masked tokens: {failure}"))
        advance(1)
    loss, accuracy = _estimates(scores)
    return MaskedTokenScores(
        model=str(folder), scores=scores, loss=loss, accuracy=accuracy, failures=failures
    )


def _chosen(source: RowSource, limit: int | None, among: Collection[str] | None) -> Iterable[Row]:
    """The rows to score; of a limited number those whose sound `comparison.select` would take."""
    rows = source.rows(COLUMNS)
    if limit is None:
        return rows
    named = [row for row in rows if row.get("id") and (among is None or row["id"] in among)]
    return spread(sorted(named, key=lambda row: str(row["id"])), limit)


def draw_masks(row_id: str, frames: int, levels: int, *, draws: int, seed: int) -> TrainingMask:
    """Masks of every level for one utterance, as training draws them (paper, section 3.2).

    Only the ratio is stratified, p = cos(u) with u from each part of [0, pi/2] in turn, so that a
    few utterances already cover it evenly.

    Returns:
        A mask of B = levels * draws examples, all of `frames` frames.
    """
    generator = row_generator(seed, row_id)
    B = levels * draws

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=generator)

    level = torch.arange(levels).repeat(draws)  # [B]
    stratum = (torch.arange(B) + int(uniform(1) * B)) % B
    # A permutation of the strata, else coarse levels would meet low ratios more often.
    stratum = stratum[torch.randperm(B, generator=generator)]
    ratio = torch.cos((stratum + uniform(B)) / B * (math.pi / 2))
    delimiter = (uniform(B) * frames).long()
    frame = torch.arange(frames)[None, :]
    masked = (frame >= delimiter[:, None]) & (uniform(B, frames) < ratio[:, None])
    return TrainingMask(
        lengths=torch.full((B,), frames), delimiter=delimiter, level=level, ratio=ratio,
        masked=masked,
    )  # fmt: skip


def _score_row(
    model: SoundStormModel,
    row_id: str,
    acoustic: Any,
    semantic: Any,
    draws: int,
    seed: int,
) -> list[dict[str, Any]]:
    frames, levels = acoustic.shape
    mask = draw_masks(row_id, frames, levels, draws=draws, seed=seed)
    device = model.network.acoustic_table.device
    codes = torch.from_numpy(acoustic.astype(np.int64)).to(device)  # [T, Q]
    condition = torch.from_numpy(semantic).to(device)  # [T]
    found = []
    at_once = max(1, FRAMES_AT_ONCE // frames)
    for start in range(0, levels * draws, at_once):
        part = _slice(mask, slice(start, start + at_once))
        B = len(part.lengths)
        with torch.inference_mode():
            sums = masked_loss(
                model.network, codes.expand(B, -1, -1), condition.expand(B, -1), part
            )
        found += [
            {"level": level + 1, "ratio": ratio, "tokens": tokens, "loss": loss, "correct": correct}
            for level, ratio, tokens, loss, correct in zip(
                part.level.tolist(),
                part.ratio.tolist(),
                sums.tokens.tolist(),
                sums.loss.tolist(),
                sums.correct.tolist(),
                strict=True,
            )
        ]
    return found


def _slice(mask: TrainingMask, part: slice) -> TrainingMask:
    """Some of a mask's examples."""
    return TrainingMask(
        lengths=mask.lengths[part],
        delimiter=mask.delimiter[part],
        level=mask.level[part],
        ratio=mask.ratio[part],
        masked=mask.masked[part],
    )


def _require_fit(model: SoundStormModel, folder: Path, source: RowSource) -> None:
    source.require_columns("semantic", "acoustic")
    ours = f"the model {folder}"
    semantic = source.provenance.require_tokens("semantic", where=source.where)
    acoustic = source.provenance.require_tokens("acoustic", where=source.where)
    model.semantic.require_same(semantic, ours=ours, theirs=source.where)
    model.acoustic.require_same(acoustic, ours=ours, theirs=source.where)
    if acoustic.levels < model.network.config.levels:
        raise DataMismatch(
            f"{source.where} has {acoustic.levels} levels and {ours} needs "
            f"{model.network.config.levels}: tokenize with more"
        )


def _lacks(row: Row) -> str | None:
    for name in ("semantic", "acoustic"):
        if row.get(name) is None or not len(row[name]):
            return f"the row has no {name} tokens"
    return None


def ratio_bin(ratio: float) -> str:
    """The name of a ratio's quarter of [0, 1]."""
    index = min(int(ratio * RATIO_BINS), RATIO_BINS - 1)
    return f"ratio {index / RATIO_BINS:.2f}-{(index + 1) / RATIO_BINS:.2f}"


def _estimates(
    scores: Sequence[MaskedScore],
) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Token-weighted means by group, with intervals over utterances."""
    groups: dict[str, list[MaskedScore]] = {"all": list(scores)}
    for level in sorted({score.level for score in scores}):
        groups[f"level {level}"] = [score for score in scores if score.level == level]
    for name in sorted({ratio_bin(score.ratio) for score in scores}):
        groups[name] = [score for score in scores if ratio_bin(score.ratio) == name]
    loss: dict[str, Estimate] = {}
    accuracy: dict[str, Estimate] = {}
    for name, members in groups.items():
        sums: dict[str, list[float]] = {}
        for score in members:
            total = sums.setdefault(score.id, [0.0, 0.0, 0.0])
            for index, value in enumerate((score.loss, score.correct, score.tokens)):
                total[index] += value
        table = np.array(list(sums.values()), dtype=np.float64).reshape(-1, 3)
        for target, column in ((loss, 0), (accuracy, 1)):
            mean = ratio_estimate(table[:, column], table[:, 2])
            if mean is not None:
                target[name] = mean
    return loss, accuracy
