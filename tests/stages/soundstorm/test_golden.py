"""Numbers of a tiny model with fixed seeds, pinned: no change may move them unnoticed."""

from __future__ import annotations

import pytest
import torch

from stages.soundstorm.decoding import DecodeOptions, decode
from stages.soundstorm.loss import masked_loss
from stages.soundstorm.masking import draw_mask
from stages.soundstorm.network import SoundStorm
from stages.soundstorm.randomness import row_noise


def test_mask() -> None:
    mask = draw_mask(torch.tensor([8, 5, 6]), 3, torch.Generator().manual_seed(5))
    assert mask.delimiter.tolist() == [5, 1, 2]
    assert mask.level.tolist() == [1, 2, 0]
    assert [row.nonzero()[:, 0].tolist() for row in mask.masked] == [[], [3], [2, 3, 4, 5]]


def test_noise() -> None:
    first, second = row_noise(3, "utterance", 4, (3, 1))
    assert second.choice.shape == second.gumbel.shape == (0, 4)
    assert first.choice.flatten().tolist() == pytest.approx(
        [0.48627, 0.85479, 0.41358, 0.63618, 0.10749, 0.85593, 0.06505, 0.82162], abs=1e-5
    )
    assert first.gumbel.flatten().tolist() == pytest.approx(
        [-0.26832, -0.81452, -0.88269, 1.6508, -0.34206, 0.60334, 0.58642, 1.3172], abs=1e-5
    )


def test_loss(network: SoundStorm) -> None:
    generator = torch.Generator().manual_seed(2)
    acoustic = torch.randint(11, (3, 8, 3), generator=generator)
    semantic = torch.randint(7, (3, 8), generator=generator)
    mask = draw_mask(torch.tensor([8, 5, 6]), 3, generator)
    sums = masked_loss(network, acoustic, semantic, mask)
    assert sums.loss.tolist() == pytest.approx([3.20018, 22.15859, 2.78787], rel=1e-4)


def test_decoded_tokens(make_network, make_requests) -> None:  # type: ignore[no-untyped-def]
    (result,) = decode(
        make_network(sharpness=2.0),
        make_requests([10], [2]),
        DecodeOptions(iterations=(4, 2, 1)),
    )
    assert result.acoustic.tolist() == [
        [9, 4, 2], [5, 8, 6], [2, 7, 1], [2, 7, 1], [2, 7, 9],
        [1, 7, 9], [5, 7, 9], [5, 4, 9], [2, 10, 1], [2, 5, 1],
    ]  # fmt: skip
    assert result.trace.passes.tolist() == [
        [0, 0, 0], [0, 0, 0], [4, 6, 7], [3, 6, 7], [4, 5, 7],
        [3, 6, 7], [2, 5, 7], [2, 6, 7], [1, 5, 7], [4, 6, 7],
    ]  # fmt: skip
