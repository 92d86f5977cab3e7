"""The loss: only masked tokens of each example's level, and a weighted mean over examples."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.soundstorm.loss import LossTable, masked_loss
from stages.soundstorm.masking import TrainingMask, draw_mask
from stages.soundstorm.network import SoundStorm

LENGTHS = [9, 4, 6, 1]


def make_batch(seed: int = 0) -> tuple[Tensor, Tensor, TrainingMask]:
    generator = torch.Generator().manual_seed(seed)
    acoustic = torch.randint(11, (4, 9, 3), generator=generator)
    semantic = torch.randint(7, (4, 9), generator=generator)
    return acoustic, semantic, draw_mask(torch.tensor(LENGTHS), 3, generator)


def one_row(mask: TrainingMask, row: int) -> TrainingMask:
    """Row `row`'s mask, as it would be without neighbours or padding."""
    return TrainingMask(
        lengths=mask.lengths[row : row + 1],
        delimiter=mask.delimiter[row : row + 1],
        level=mask.level[row : row + 1],
        ratio=mask.ratio[row : row + 1],
        masked=mask.masked[row : row + 1, : LENGTHS[row]],
    )


def test_equals_a_loop_over_tokens(network: SoundStorm) -> None:
    for seed in range(5):
        acoustic, semantic, mask = make_batch(seed)
        sums = masked_loss(network, acoustic, semantic, mask)
        for row, length in enumerate(LENGTHS):
            hidden = mask.apply(acoustic, 11)[row : row + 1, :length]
            features = network.features(hidden, semantic[row : row + 1, :length])[0]
            level = int(mask.level[row])
            loss, tokens, correct = 0.0, 0, 0
            for frame in range(length):
                if mask.masked[row, frame]:
                    logits = network.head(level, features[frame])
                    truth = acoustic[row, frame, level]
                    loss += F.cross_entropy(logits, truth).item()
                    tokens += 1
                    correct += int(logits.argmax() == truth)
            assert sums.loss[row].item() == pytest.approx(loss, rel=1e-4)
            assert (int(sums.tokens[row]), int(sums.correct[row])) == (tokens, correct)


def test_batch_is_the_token_weighted_mean_of_its_rows(network: SoundStorm) -> None:
    acoustic, semantic, mask = make_batch(1)
    batch = masked_loss(network, acoustic, semantic, mask)
    total, tokens = 0.0, 0
    for row, length in enumerate(LENGTHS):
        alone = masked_loss(
            network,
            acoustic[row : row + 1, :length],
            semantic[row : row + 1, :length],
            one_row(mask, row),
        )
        total += alone.mean.item() * int(alone.tokens)
        tokens += int(alone.tokens)
    assert batch.mean.item() == pytest.approx(total / tokens, rel=1e-5)


def test_padding_and_hidden_tokens_cannot_leak(network: SoundStorm) -> None:
    """Nothing but the target itself may change when what is hidden changes."""
    acoustic, semantic, mask = make_batch(2)
    changed, condition = acoustic.clone(), semantic.clone()
    frame = torch.arange(9)[None, :]
    padding = frame >= mask.lengths[:, None]
    finer = torch.arange(3)[None, None, :] > mask.level[:, None, None]
    hidden = (finer & (frame >= mask.delimiter[:, None])[:, :, None]) | padding[:, :, None]
    changed[hidden] = (changed[hidden] + 1) % 11
    condition[padding] = 6
    before = masked_loss(network, acoustic, semantic, mask)
    after = masked_loss(network, changed, condition, mask)
    assert torch.equal(before.loss, after.loss)


def test_nothing_masked_is_no_loss_but_still_a_gradient(network: SoundStorm) -> None:
    acoustic, semantic, mask = make_batch()
    empty = TrainingMask(
        lengths=mask.lengths,
        delimiter=mask.delimiter,
        level=mask.level,
        ratio=mask.ratio,
        masked=torch.zeros_like(mask.masked),
    )
    sums = masked_loss(network, acoustic, semantic, empty)
    assert sums.mean.item() == 0
    assert not sums.tokens.any()
    sums.mean.backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()


def test_every_parameter_gets_a_gradient_in_every_batch(network: SoundStorm) -> None:
    acoustic, semantic, mask = make_batch()
    masked_loss(network, acoustic, semantic, mask).mean.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_learns_a_rule() -> None:
    """Tokens that follow from the condition are learnt to near certainty."""
    from stages.soundstorm.config import SoundStormConfig

    torch.manual_seed(0)
    config = SoundStormConfig(
        levels=2,
        codebook_size=11,
        semantic_codebook_size=7,
        layers=1,
        heads=2,
        width=32,
        feed_forward=64,
        dropout=0.0,
    )
    network = SoundStorm(config)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(70):
        semantic = torch.randint(7, (8, 12), generator=generator)
        acoustic = torch.stack((semantic, (3 * semantic) % 11), dim=-1)
        mask = draw_mask(torch.full((8,), 12), 2, generator)
        sums = masked_loss(network, acoustic, semantic, mask)
        optimizer.zero_grad()
        sums.mean.backward()
        optimizer.step()
    assert sums.mean.item() < 0.1
    assert int(sums.correct.sum()) == int(sums.tokens.sum())


def test_table_splits_by_level_and_ratio(network: SoundStorm) -> None:
    table = LossTable(3, ratio_bins=2)
    loss = tokens = correct = 0.0
    for seed in range(6):
        acoustic, semantic, mask = make_batch(seed)
        sums = masked_loss(network, acoustic, semantic, mask)
        table.add(sums, mask)
        loss += sums.loss.sum().item()
        tokens += float(sums.tokens.sum())
        correct += float(sums.correct.sum())
    summary = table.summary()
    assert summary["loss"] == pytest.approx(loss / tokens, rel=1e-5)
    assert summary["accuracy"] == pytest.approx(correct / tokens)
    assert set(summary) == {
        f"{what}{cell}"
        for what in ("loss", "accuracy")
        for cell in (
            "",
            "/level_01",
            "/level_02",
            "/level_03",
            "/ratio_0.00-0.50",
            "/ratio_0.50-1.00",
        )
    }
    for level in range(3):
        share = table.sums[:, level].sum(dim=1)
        assert summary[f"loss/level_{level + 1:02d}"] == pytest.approx(float(share[0] / share[1]))
    assert float(table.sums[1].sum()) == tokens
