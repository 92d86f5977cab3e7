"""A tiny BEST-RQ encoder and a tiny consistency model on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stages.consistency.config import ConsistencyConfig, HeadConfig
from stages.consistency.encoder import tap_encoder
from stages.consistency.network import ConsistencyNetwork
from stages.semantic.best_rq import BestRQ, BestRQConfig, save_best_rq


@pytest.fixture(scope="module")
def best_rq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained BEST-RQ model of two layers."""
    torch.manual_seed(0)
    config = BestRQConfig(
        layers=2, heads=2, width=16, feed_forward=16, mels=20, codebook_size=8
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("encoder") / "best-rq"
    save_best_rq(folder, config=config, weights=BestRQ(config).state_dict())
    return folder


@pytest.fixture
def network(best_rq: Path) -> ConsistencyNetwork:
    """On its second layer, in evaluation mode."""
    encoder, _ = tap_encoder(f"{best_rq}:2")
    torch.manual_seed(1)
    head = HeadConfig(heads=2, feed_forward=16, dim=8)
    network = ConsistencyNetwork(ConsistencyConfig(encoder=encoder.config, head=head))
    network.encoder.load_state_dict(encoder.state_dict())
    return network.eval()
