"""Cross-entropy of the generated tokens of each codebook."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.audiolm.network import StageNetwork
from stages.audiolm.sequences import SequenceBatch


@dataclass(frozen=True, kw_only=True)
class GroupSums:
    """Sums over generated tokens, codebook by codebook; they add up over batches."""

    loss: Tensor
    """`[G]` float32: cross-entropy in nats, with gradients."""

    tokens: Tensor
    """`[G]` int64: generated tokens."""

    correct: Tensor
    """`[G]` int64: those whose likeliest candidate is the true one."""

    @property
    def mean(self) -> Tensor:
        """Loss a token."""
        return self.loss.sum() / self.tokens.sum().clamp(min=1)


def sequence_loss(network: StageNetwork, batch: SequenceBatch) -> GroupSums:
    """Predict every generated token from all that is before it.

    Args:
        network: on any device; the batch is moved there.
        batch: from `batch_sequences`.
    """
    device = network.table.device
    features = network.features(
        batch.entries.to(device, non_blocking=True), batch.positions.to(device, non_blocking=True)
    )
    chosen = features.flatten(0, 1)[batch.places.to(device, non_blocking=True)]  # [M, D]
    targets = batch.targets.to(device, non_blocking=True)
    losses, hits = [], []
    parts = zip(torch.split(chosen, batch.sizes), torch.split(targets, batch.sizes), strict=True)
    for group, (part, truth) in enumerate(parts):
        logits = network.head(group, part).float()
        losses.append(F.cross_entropy(logits, truth, reduction="sum"))
        hits.append((logits.detach().argmax(dim=-1) == truth).sum())
    return GroupSums(
        loss=torch.stack(losses),
        tokens=torch.tensor(batch.sizes).to(device, non_blocking=True),
        correct=torch.stack(hits),
    )
