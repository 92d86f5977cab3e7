"""Units of three numbers, and networks of a few weights that speak them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from stages.semantic.kmeans import EncoderChoice, KMeans
from stages.semantic.unit_search.config import save_unit_network
from stages.semantic.unit_search.unit_to_mel import UnitToMelConfig
from tests.tiny_whisper import MELS

KMEANS = KMeans(
    centroids=np.random.default_rng(0).uniform(-1, 1, (40, 3)).astype(np.float32),
    encoder="bottleneck",
    encoder_fingerprint="e" * 64,
    frame_rate=Fraction(25),
    choice=EncoderChoice(spec="nowhere"),
)
SPEAKER = UnitToMelConfig(
    layers=1, heads=2, width=16, feed_forward=16, dim=3, dropout=0.0, mels=MELS
)


def tiny_speaker(folder: Path, kmeans: KMeans = KMEANS, *, seed: int = 0) -> Path:
    """Write a random one; returns the folder."""
    torch.manual_seed(seed)
    weights = SPEAKER.build().state_dict()
    save_unit_network(folder, config=SPEAKER, weights=weights, kmeans=kmeans)
    return folder
