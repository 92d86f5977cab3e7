"""Our own BEST-RQ network as a semantic encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from stages.semantic.base import Frames, SemanticEncoder
from stages.semantic.best_rq import load_best_rq
from stages.semantic.encoders.layers import pick_layer
from stages.shards.provenance import hash_json


class BestRQEncoder(SemanticEncoder):
    """A layer of a network that `train --model best-rq` made."""

    def __init__(self, folder: Path, *, layer: int | None = None, device: str = "cpu") -> None:
        """Load a model folder; `layer` is 1-based, the middle one by default.

        Raises:
            DataMismatch: if it is no BEST-RQ model, or has no such layer.
        """
        network, file = load_best_rq(folder)
        count = network.config.layers
        self._layer = pick_layer(layer, count=count, default=(count + 1) // 2, where=str(folder))
        del network.conformer.blocks[self._layer :]
        self._network = network.to(device)
        self._device = torch.device(device)
        self.name = f"best-rq:{self._layer}"
        self.fingerprint = hash_json(["best-rq", file.fingerprint, self._layer])
        self.sample_rate = network.config.sample_rate
        self.frame_rate = network.config.frame_rate
        self.dim = network.config.width

    @torch.inference_mode()
    def encode(self, samples: Tensor, lengths: Tensor) -> Frames:
        """Encode `[B, N]` into `[B, T, D]` with T = ceil(N / hop)."""
        values, counts = self._network.encode(
            samples.to(self._device), lengths.to(self._device), layer=self._layer
        )
        return Frames(values=values, lengths=counts)
