"""Stages two and three in a row: from semantic tokens to all levels of acoustic tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stages.audiolm.chunks import Chunk, Job, generate
from stages.audiolm.config import CoarseConfig, FineConfig
from stages.audiolm.model import AcousticModel, StageModel
from stages.audiolm.sampling import Sampling
from stages.audiolm.sequences import TokenSequence, coarse_sequence, fine_sequence
from stages.soundstorm.decoding import DecodeRequest


@dataclass(frozen=True, kw_only=True)
class AcousticOptions:
    """How to generate."""

    coarse: Sampling = field(default_factory=Sampling)
    """Of the coarse tokens."""

    fine: Sampling = field(default_factory=Sampling)
    """Of the fine tokens."""

    seed: int = 0
    """With a row's id, it decides all that is random about the row."""

    def to_json(self) -> dict[str, Any]:
        return {"coarse": self.coarse.to_json(), "fine": self.fine.to_json(), "seed": self.seed}


def generate_acoustic(
    model: AcousticModel, requests: Sequence[DecodeRequest], options: AcousticOptions
) -> list[Tensor]:
    """Generate a ragged batch of rows, each as if it were alone.

    Args:
        model: with its networks in evaluation mode.
        requests: rows that passed `DecodeRequest.check`.
        options: how.

    Returns:
        `[T, Q]` int64 for each row, on the CPU, prompt first.
    """
    coarse = _coarse(model.coarse, requests, options)
    if model.fine is None:
        return coarse
    fine = _fine(model.fine, requests, coarse, options)
    return [torch.cat(pair, dim=1) for pair in zip(coarse, fine, strict=True)]


def _coarse(
    stage: StageModel[CoarseConfig], requests: Sequence[DecodeRequest], options: AcousticOptions
) -> list[Tensor]:
    """`[T, L]` for each row."""
    jobs = [
        Job(
            row_id=request.row_id,
            frames=len(request.semantic),
            given=request.prompt[:, : stage.config.levels],
            sequence=partial(_coarse_chunk, stage.config, request.semantic),
        )
        for request in requests
    ]
    chunk, overlap = stage.config.chunk_frames(stage.tokens["acoustic"].frame_rate)
    return generate(
        stage.network, jobs, options.coarse, seed=options.seed, chunk=chunk, overlap=overlap
    )


def _fine(
    stage: StageModel[FineConfig],
    requests: Sequence[DecodeRequest],
    coarse: Sequence[Tensor],
    options: AcousticOptions,
) -> list[Tensor]:
    """`[T, Q - L]` for each row."""
    first, last = stage.config.coarse_levels, stage.config.levels
    jobs = [
        Job(
            row_id=request.row_id,
            frames=len(codes),
            given=request.prompt[:, first:last],
            sequence=partial(_fine_chunk, stage.config, codes),
        )
        for request, codes in zip(requests, coarse, strict=True)
    ]
    chunk, overlap = stage.config.chunk_frames(stage.tokens["acoustic"].frame_rate)
    return generate(
        stage.network, jobs, options.fine, seed=options.seed, chunk=chunk, overlap=overlap
    )


def _coarse_chunk(
    config: CoarseConfig, semantic: Tensor, chunk: Chunk, known: Tensor
) -> TokenSequence:
    return coarse_sequence(config, semantic[chunk.start : chunk.end], known)


def _fine_chunk(config: FineConfig, coarse: Tensor, chunk: Chunk, known: Tensor) -> TokenSequence:
    return fine_sequence(config, coarse[chunk.start : chunk.end], known)
