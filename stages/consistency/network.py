"""Crops of speech to unit vectors that are close where the crops are of one recording.

A frozen BEST-RQ encoder up to an intermediate layer, one Conformer block, the mean over time, a
linear projection (paper, section 4.2).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.consistency.config import ConsistencyConfig
from stages.consistency.contrast import ContrastSums, contrast
from stages.nn.conformer import Conformer, padding_mask
from stages.semantic.speech_conformer import SpeechConformer

FIRST_TEMPERATURE = 0.07
LARGEST_SCALE = 100.0
"""Of the inverse temperature; both numbers are CLIP's (Radford et al. 2021, section 2.5)."""


class ConsistencyNetwork(nn.Module):
    """The encoder's layers, the trained head, and the temperature of its loss."""

    def __init__(self, config: ConsistencyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = SpeechConformer(config.encoder).requires_grad_(False)
        self.conformer = Conformer(config.conformer)
        self.projection = nn.Linear(config.encoder.width, config.head.dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(FIRST_TEMPERATURE)))
        self.train(self.training)

    def train(self, mode: bool = True) -> ConsistencyNetwork:
        """As any module, but the encoder, which is frozen, has no dropout."""
        super().train(mode)
        self.encoder.eval()
        return self

    def embed(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """Embed crops; a row does not depend on its neighbours or on padding.

        Args:
            samples: `[B, N]` float32 at the encoder's sample rate, on the network's device.
            lengths: `[B]` int64, samples of each row, at least 1.

        Returns:
            `[B, D]` float32 unit vectors.
        """
        with torch.no_grad():
            frames, counts = self.encoder.encode(
                samples, lengths, layer=self.config.encoder.layers
            )  # [B, T, width]
        mask = padding_mask(counts, frames.shape[1])
        hidden = self.conformer(frames, mask).float()
        if mask is not None:
            hidden = hidden.masked_fill(~mask[..., None], 0.0)
        mean = hidden.sum(dim=1) / counts[:, None]  # [B, width]
        return F.normalize(self.projection(mean).float(), dim=-1)

    def loss(self, samples: Tensor, lengths: Tensor) -> ContrastSums:
        """Contrast recordings.

        Args:
            samples: `[2 B, N]`, the two crops of each recording one after the other.
            lengths: `[2 B]` int64.
        """
        with torch.no_grad():  # clipped as CLIP's is, but before a step instead of after it
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        pairs = self.embed(samples, lengths).reshape(-1, 2, self.config.head.dim)  # [B, 2, D]
        return contrast(pairs[:, 0], pairs[:, 1], self.log_scale.exp())
