"""BEST-RQ: speech learnt by predicting random codes of what is masked (Chiu et al. 2022).

Normalised log-mel frames, stacked to the token rate, are the input of a Conformer. A projection
and a codebook that are drawn once and never trained turn each unmasked stack into a code; spans
of the input are replaced by noise, and the network predicts the codes of what was there. A middle
layer of the trained network is a semantic encoder, at w2v-BERT's 25 Hz (paper, section 4.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import DataMismatch
from stages.nn.model_file import ModelFile, load_model_file, load_weights, save_model_file
from stages.semantic.speech_conformer import (
    SpeechConformer,
    SpeechConformerConfig,
    draw_spans,
)

KIND = "best-rq"


@dataclass(frozen=True, kw_only=True)
class BestRQConfig(SpeechConformerConfig):
    """Shape of a BEST-RQ network and of its task; defaults follow Chiu et al. 2022, section 4."""

    codebook_size: int = 8192
    """Entries of the random codebook."""

    codebook_width: int = 16
    """Dimensions that the random projection leaves."""

    codebook_seed: int = 0
    """Of the projection and the codebook, which training never changes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.codebook_size, self.codebook_width) < 1:
            raise DataMismatch("a BEST-RQ network needs at least one code of at least one width")


@dataclass(frozen=True, kw_only=True)
class BestRQSums:
    """Sums over masked frames, row by row; they add up over batches and processes."""

    loss: Tensor
    """`[B]` float32: cross-entropy in nats, with gradients."""

    frames: Tensor
    """`[B]` int64: masked frames."""

    correct: Tensor
    """`[B]` int64: masked frames whose likeliest code is the true one."""

    @property
    def mean(self) -> Tensor:
        """Loss a masked frame; 0 without any."""
        return self.loss.sum() / self.frames.sum().clamp(min=1)


class BestRQ(SpeechConformer):
    """The network, its features and its random quantiser."""

    config: BestRQConfig
    projection: Tensor
    codebook: Tensor

    def __init__(self, config: BestRQConfig) -> None:
        super().__init__(config)
        size = config.stack * config.mels
        self.head = nn.Linear(config.width, config.codebook_size)
        generator = torch.Generator().manual_seed(config.codebook_seed)
        spread = (6 / (size + config.codebook_width)) ** 0.5  # Xavier's, as in the article
        projection = (torch.rand(size, config.codebook_width, generator=generator) * 2 - 1) * spread
        codebook = torch.randn(config.codebook_size, config.codebook_width, generator=generator)
        self.register_buffer("projection", projection)
        self.register_buffer("codebook", F.normalize(codebook, dim=1))

    def targets(self, features: Tensor) -> Tensor:
        """The random code of each stack: `[B, T, stack * mels]` to `[B, T]` int64."""
        # In float32 whatever the network is trained in: the same speech has the same codes always.
        with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
            projected = F.normalize(features.float() @ self.projection, dim=-1)
            # Between unit vectors the nearest is the one of the largest product.
            return (projected @ self.codebook.T).argmax(dim=-1)

    def loss(self, samples: Tensor, lengths: Tensor, generator: torch.Generator) -> BestRQSums:
        """Mask spans, predict the codes under them.

        Args:
            samples: `[B, N]` float32 on the network's device.
            lengths: `[B]` int64, samples of each row, on the same device.
            generator: a CPU generator; the same state masks the same.
        """
        bands, mel_counts = self.mel(samples, lengths)
        features = self.stacked(bands, mel_counts, normalise=self.config.utterance_norm)
        # Whatever the network reads, its targets are of normalised frames: nearly all others fall
        # to a few codes of a random codebook.
        targets = self.targets(self.stacked(bands, mel_counts, normalise=True))  # [B, T]
        counts = self.frames(lengths)
        masked = draw_spans(counts.cpu(), self.config, generator)  # [B, T]
        noise = self.config.noise * torch.randn(features.shape, generator=generator)
        masked = masked.to(features.device)
        hidden = torch.where(masked[..., None], noise.to(features.device), features)
        logits = self.head(self(hidden, counts)[masked])  # [masked frames, codes]
        wanted = targets[masked]
        rows = masked.nonzero()[:, 0]
        loss = F.cross_entropy(logits.float(), wanted, reduction="none")
        correct = logits.argmax(dim=-1) == wanted
        empty = torch.zeros(len(samples), device=features.device)
        return BestRQSums(
            loss=empty.index_add(0, rows, loss),
            frames=masked.sum(dim=1),
            correct=empty.long().index_add(0, rows, correct.long()),
        )


def save_best_rq(
    folder: Path,
    *,
    config: BestRQConfig,
    weights: Mapping[str, Tensor],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder of kind `best-rq` from a network's `state_dict` (or its average)."""
    save_model_file(folder, kind=KIND, config=config.to_json(), weights=weights, extra=extra)


def load_best_rq(folder: Path) -> tuple[BestRQ, ModelFile]:
    """Read a model folder of kind `best-rq`; the network comes in evaluation mode.

    Raises:
        DataMismatch: if it is none, or its weights do not fit its configuration.
    """
    file = load_model_file(folder, kind=KIND)
    network = BestRQ(BestRQConfig.from_json(file.config, where=str(folder)))
    load_weights(network, file.weights, folder)
    return network.eval(), file
