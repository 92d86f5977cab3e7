"""The invariants of the training mask and loss, and that each known fault breaks one.

Faults are made as in `test_decoding_faults.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

import stages.soundstorm.loss
import stages.soundstorm.masking

LEVELS, SIZE, CONDITIONS = 3, 11, 7
MASK = SIZE
MakeSpy = Callable[[], Any]
Broken = Callable[..., ModuleType]
Change = tuple[str, str]


def check_training(masking: ModuleType, loss: ModuleType, make_spy: MakeSpy) -> None:
    """Assert every invariant of the training mask and loss."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([40, 25, 31, 40, 8, 19])
    network = make_spy()
    levels, delimiters, ratios = set(), set(), set()
    for _ in range(8):
        acoustic = torch.randint(SIZE, (6, 40, LEVELS), generator=generator)
        semantic = torch.randint(CONDITIONS, (6, 40), generator=generator)
        mask = masking.draw_mask(lengths, LEVELS, generator)
        levels.add(len(set(mask.level.tolist())))
        delimiters.add(len(set((mask.delimiter / lengths).tolist())))
        ratios.add(len(set(mask.ratio.tolist())))
        network.inputs.clear()
        sums = loss.masked_loss(network, acoustic, semantic, mask)
        (seen,) = network.inputs
        total, tokens = 0.0, 0
        for row, length in enumerate(lengths.tolist()):
            t, q = int(mask.delimiter[row]), int(mask.level[row])
            assert t < length, "an example that is all prompt"
            assert (seen[row, length:] == MASK).all(), "padding is a valid code"
            assert torch.equal(seen[row, :t], acoustic[row, :t]), "a prompt token is hidden"
            coarser = seen[row, :length, :q]
            assert torch.equal(coarser, acoustic[row, :length, :q]), "a coarser level is hidden"
            assert (seen[row, t:, q + 1 :] == MASK).all(), "a finer level is not hidden"
            hidden = seen[row, :length, q] == MASK
            features = network.features(seen[row : row + 1, :length], semantic[row, None, :length])
            logits = network.head(q, features[0][hidden])
            total += torch.nn.functional.cross_entropy(
                logits, acoustic[row, :length, q][hidden], reduction="sum"
            ).item()
            tokens += int(hidden.sum())
        assert int(sums.tokens.sum()) == tokens, "not the masked tokens of the level"
        assert sums.mean.item() == pytest.approx(total / tokens, rel=1e-4), "not their mean loss"
    assert max(levels) > 1, "one level for the whole batch"
    assert max(delimiters) == 6, "one delimiter for the whole batch"
    assert max(ratios) == 6, "one ratio for the whole batch"


def test_training_keeps_its_invariants(make_spy: MakeSpy) -> None:
    check_training(stages.soundstorm.masking, stages.soundstorm.loss, make_spy)


MASKING_FAULTS: dict[str, tuple[str, Change]] = {
    "one delimiter for the batch": (
        "one delimiter", ("delimiter = (uniform(B) *", "delimiter = (uniform(1) *"),
    ),
    "delimiter of the padded length": (
        "all prompt", ("delimiter = (uniform(B) * lengths)", "delimiter = (uniform(B) * T)"),
    ),
    "one level for the batch": (
        "one level",
        ("torch.randint(levels, (B,), generator=generator)",
         "torch.randint(levels, (1,), generator=generator).expand(B)"),
    ),
    "one ratio for the batch": (
        "one ratio",
        ("torch.cos(uniform(B) * (math.pi / 2))",
         "torch.cos(uniform(1) * (math.pi / 2)).expand(B)"),
    ),
    "finer levels shown": (
        "a finer level is not hidden", ("| (generated & (level > own_level))", ""),
    ),
    "coarser levels hidden": (
        "a coarser level is hidden", ("(level == own_level)", "(level <= own_level)"),
    ),
    "prompt hidden": (
        "a prompt token is hidden", ("(generated & (level > own_level))", "(level > own_level)"),
    ),
    "padding with a valid code": ("padding is a valid code", ("            | padding\n", "")),
}  # fmt: skip
LOSS_FAULTS: dict[str, tuple[str, Change]] = {
    "mean of the rows' means": (
        "not their mean loss",
        ("return self.loss.sum() / self.tokens.sum().clamp(min=1)",
         "return (self.loss / self.tokens.clamp(min=1)).mean()"),
    ),
    "tokens that were shown counted": (
        "not the masked tokens",
        ("tokens=mask.masked.sum(dim=1)",
         "tokens=(torch.arange(mask.masked.shape[1]) >= mask.delimiter[:, None]).sum(dim=1)"),
    ),
    "loss on shown tokens": (
        "not their mean loss",
        ("row, frame = mask.masked.nonzero(as_tuple=True)",
         "row, frame = torch.ones_like(mask.masked).nonzero(as_tuple=True)"),
    ),
    "padding attended to": (
        "not their mean loss",
        ("None if real is None else real.to(device, non_blocking=True)", "None"),
    ),
    "another level's head": (
        "not their mean loss", ("network.head(index, group)", "network.head(0, group)"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", MASKING_FAULTS)
def test_masking_fault_is_caught(fault: str, make_spy: MakeSpy, broken: Broken) -> None:
    verdict, change = MASKING_FAULTS[fault]
    copy = broken(stages.soundstorm.masking, change)
    with pytest.raises(AssertionError, match=verdict):
        check_training(copy, stages.soundstorm.loss, make_spy)


@pytest.mark.parametrize("fault", LOSS_FAULTS)
def test_loss_fault_is_caught(fault: str, make_spy: MakeSpy, broken: Broken) -> None:
    verdict, change = LOSS_FAULTS[fault]
    copy = broken(stages.soundstorm.loss, change)
    with pytest.raises(AssertionError, match=verdict):
        check_training(stages.soundstorm.masking, copy, make_spy)
