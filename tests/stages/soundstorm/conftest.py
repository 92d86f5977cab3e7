"""A tiny SoundStorm and tokens to go with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.network import SoundStorm

MakeNetwork = Callable[..., SoundStorm]


def _make_network(*, levels: int = 3, seed: int = 0, sharpness: float = 6.0) -> SoundStorm:
    torch.manual_seed(seed)
    config = SoundStormConfig(
        levels=levels, codebook_size=11, semantic_codebook_size=7, layers=2, heads=2, width=16,
        feed_forward=32, dropout=0.0,
    )
    network = SoundStorm(config).eval()
    with torch.no_grad():  # an untrained network is unsure of everything; this one has opinions
        network.head_weight.mul_(sharpness)
    return network


@pytest.fixture(scope="session")
def make_network() -> MakeNetwork:
    """`make_network(levels=3, seed=0)`: 11 codes a level, 7 semantic tokens, width 16."""
    return _make_network


@pytest.fixture
def network() -> SoundStorm:
    return _make_network()
