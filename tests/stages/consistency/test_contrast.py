"""The contrastive loss and retrieval, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from stages.consistency.contrast import contrast, finds_own


def test_the_loss_is_clip_s() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    second = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    sums = contrast(first, second, torch.tensor(2.0))
    # Rows: logits (2, 2) and (0, 0) leave a coin toss; columns: (2, 0), of which one is right.
    rows = 2 * math.log(2)
    columns = (math.log(math.e**2 + 1) - 2) + math.log(math.e**2 + 1)
    assert float(sums.loss) == pytest.approx((rows + columns) / 2)
    assert int(sums.recordings) == 2
    assert int(sums.correct) == 0  # ties


def test_what_is_told_apart_costs_less() -> None:
    right = contrast(torch.eye(3), torch.eye(3), torch.tensor(10.0))
    wrong = contrast(torch.eye(3), torch.eye(3).roll(1, 0), torch.tensor(10.0))
    assert float(right.loss) < 1e-3 < 10 < float(wrong.loss)
    assert (int(right.correct), int(wrong.correct)) == (3, 0)


def test_retrieval_is_of_the_nearest_and_a_tie_is_none() -> None:
    similarities = torch.tensor([[0.9, 0.1, 0.2], [0.5, 0.5, 0.0], [0.3, 0.8, 0.7]])
    assert finds_own(similarities).tolist() == [True, False, False]
