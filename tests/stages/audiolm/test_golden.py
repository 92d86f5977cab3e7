"""Numbers of tiny stages with fixed seeds, pinned: no change may move them unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from stages.audiolm.acoustic import AcousticOptions, generate_acoustic
from stages.audiolm.chunks import Job, generate
from stages.audiolm.loss import sequence_loss
from stages.audiolm.model import AcousticModel, StageModel
from stages.audiolm.sampling import Sampling
from stages.audiolm.sequences import batch_sequences, coarse_sequence, semantic_sequence
from stages.soundstorm.decoding import DecodeRequest

MakeStage = Callable[..., StageModel[Any]]


def test_loss(make_stage: MakeStage) -> None:
    stage, generator = make_stage("coarse"), torch.Generator().manual_seed(2)
    sequences = [
        coarse_sequence(
            stage.config,
            torch.randint(7, (frames,), generator=generator),
            torch.randint(11, (frames, 2), generator=generator),
        )
        for frames in (8, 5)
    ]
    sums = sequence_loss(stage.network, batch_sequences(stage.config, sequences))
    assert sums.loss.tolist() == pytest.approx([59.69918, 46.97709], rel=1e-4)


def test_acoustic_tokens(make_stage: MakeStage) -> None:
    coarse, fine = make_stage("coarse", sharpness=2.0), make_stage("fine", sharpness=2.0)
    model = AcousticModel(coarse=coarse, fine=fine)
    generator = torch.Generator().manual_seed(2)
    request = DecodeRequest(
        row_id="golden",
        semantic=torch.randint(7, (8,), generator=generator),
        prompt=torch.randint(11, (2, 5), generator=generator),
    )
    (made,) = generate_acoustic(model, [request], AcousticOptions())
    assert made.tolist() == [
        [1, 6, 0, 3, 8], [10, 1, 5, 10, 9], [8, 10, 6, 0, 4], [6, 5, 6, 8, 3],
        [6, 8, 6, 3, 10], [2, 8, 0, 10, 7], [6, 5, 9, 7, 3], [6, 0, 4, 5, 1],
    ]  # fmt: skip


def test_semantic_tokens(make_stage: MakeStage) -> None:
    stage = make_stage("semantic", sharpness=2.0)
    job = Job(
        row_id="golden",
        frames=24,
        given=torch.tensor([[3], [1]]),
        sequence=lambda chunk, known: semantic_sequence(
            stage.config, known[:, 0], total=chunk.end - chunk.start, from_start=chunk.start == 0
        ),
    )
    (made,) = generate(
        stage.network, [job], Sampling(top_k=4), seed=0, chunk=20, overlap=10, codes=7
    )
    assert made[:, 0].tolist() == [
        3, 1, 2, 5, 4, 3, 1, 2, 5, 2, 5, 1, 1, 1, 5, 4, 2, 1, 2, 3, 5, 1, 5, 2,
    ]  # fmt: skip
