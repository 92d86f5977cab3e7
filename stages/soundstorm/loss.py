"""Cross-entropy of the masked tokens of each example's level (paper, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.nn.conformer import padding_mask
from stages.soundstorm.masking import TrainingMask
from stages.soundstorm.network import SoundStorm


@dataclass(frozen=True, kw_only=True)
class LossSums:
    """Sums over masked tokens, example by example; they add up over batches and processes."""

    loss: Tensor
    """`[B]` float32: cross-entropy in nats."""

    tokens: Tensor
    """`[B]` int64: masked tokens."""

    correct: Tensor
    """`[B]` int64: masked tokens whose likeliest candidate is the true one."""

    @property
    def mean(self) -> Tensor:
        """Loss a masked token, the token-weighted mean of the examples' losses; 0 without any."""
        return self.loss.sum() / self.tokens.sum().clamp(min=1)


def masked_loss(
    network: SoundStorm, acoustic: Tensor, semantic: Tensor, mask: TrainingMask
) -> LossSums:
    """Hide tokens, predict them, and score the predictions.

    Args:
        network: on the device of the tokens.
        acoustic: `[B, T, Q]` int64 with T the longest of `mask.lengths`; padding may hold any
            value from 0 to C.
        semantic: `[B, T]` int64, likewise.
        mask: from `draw_mask`.

    Returns:
        Sums on the device of the tokens; `loss` carries gradients. Where no token is masked the
        loss is 0, still with (zero) gradients.
    """
    device = acoustic.device
    real = padding_mask(mask.lengths, acoustic.shape[1])
    features = network.features(
        mask.apply(acoustic, network.config.mask_token),
        semantic,
        None if real is None else real.to(device, non_blocking=True),
    )
    row, frame, sizes = _by_level(mask, network.config.levels)
    row, frame = row.to(device, non_blocking=True), frame.to(device, non_blocking=True)
    level = mask.level.to(device, non_blocking=True)[row]
    target = acoustic[row, frame, level]  # [N]
    # [N, D] in the order of levels, so that each level's head runs once
    groups = torch.split(features[row, frame], sizes)
    losses, hits = [], []
    for index, (group, truth) in enumerate(zip(groups, torch.split(target, sizes), strict=True)):
        if sizes[index] or index == 0:
            logits = network.head(index, group).float()
            losses.append(F.cross_entropy(logits, truth, reduction="none"))
            hits.append(logits.detach().argmax(dim=-1) == truth)
    B = len(mask.lengths)
    return LossSums(
        loss=torch.zeros(B, device=device).index_add(0, row, torch.cat(losses)),
        tokens=mask.masked.sum(dim=1).to(device, non_blocking=True),
        correct=torch.zeros(B, dtype=torch.long, device=device).index_add(
            0, row, torch.cat(hits).long()
        ),
    )


def _by_level(mask: TrainingMask, levels: int) -> tuple[Tensor, Tensor, list[int]]:
    """Rows and frames of the masked tokens, level by level, and how many each level has."""
    row, frame = mask.masked.nonzero(as_tuple=True)
    level = mask.level[row]
    order = level.argsort(stable=True)
    return row[order], frame[order], torch.bincount(level, minlength=levels).tolist()


class LossTable:
    """Loss and accuracy of a validation set by level and by masking ratio."""

    def __init__(self, levels: int, *, ratio_bins: int = 4) -> None:
        self._sums = torch.zeros(3, levels, ratio_bins, dtype=torch.float64)

    def add(self, sums: LossSums, mask: TrainingMask) -> None:
        """Count a batch; each example goes to its level and its ratio's bin of `[0, 1]`."""
        _, levels, bins = self._sums.shape
        cell = mask.level * bins + (mask.ratio * bins).long().clamp(max=bins - 1)
        for table, values in zip(self._sums, (sums.loss, sums.tokens, sums.correct), strict=True):
            table.view(levels * bins).index_add_(0, cell, values.detach().cpu().double())

    @property
    def sums(self) -> Tensor:
        """`[3, Q, bins]` float64: loss, tokens, correct; add it up over processes if need be."""
        return self._sums

    def summary(self) -> dict[str, float]:
        """Loss and accuracy a token: `loss`, `accuracy`, `loss/level_01`, `loss/ratio_0.00-0.25`...

        What saw no masked token is left out.
        """
        _, levels, bins = self._sums.shape
        cells = {"": self._sums.sum(dim=(1, 2))}
        cells |= {f"/level_{q + 1:02d}": self._sums[:, q].sum(dim=1) for q in range(levels)}
        cells |= {
            f"/ratio_{b / bins:.2f}-{(b + 1) / bins:.2f}": self._sums[:, :, b].sum(dim=1)
            for b in range(bins)
        }
        summary: dict[str, float] = {}
        for name, cell in cells.items():
            loss, tokens, correct = cell.tolist()
            if tokens:
                summary[f"loss{name}"] = loss / tokens
                summary[f"accuracy{name}"] = correct / tokens
        return summary
