"""The training mask: every draw an example's own, and only what the paper hides hidden."""

from __future__ import annotations

import math

import torch

from stages.soundstorm.masking import Practice, TrainingMask, draw_mask

MASK = 99


def draw(lengths: list[int], levels: int = 4, seed: int = 0) -> TrainingMask:
    return draw_mask(torch.tensor(lengths), levels, torch.Generator().manual_seed(seed))


def test_hides_exactly_what_the_paper_says() -> None:
    lengths = [7, 1, 12, 5]
    acoustic = torch.randint(90, (4, 12, 4))
    for seed in range(50):
        mask = draw(lengths, seed=seed)
        hidden = mask.apply(acoustic, MASK)
        for b, length in enumerate(lengths):
            t, q = int(mask.delimiter[b]), int(mask.level[b])
            assert 0 <= t < length
            assert 0 <= q < 4
            for frame in range(12):
                for level in range(4):
                    if frame >= length:
                        expected = True
                    elif frame < t or level < q:
                        expected = False
                    elif level > q:
                        expected = True
                    else:
                        expected = bool(mask.masked[b, frame])
                    shown = MASK if expected else int(acoustic[b, frame, level])
                    assert hidden[b, frame, level] == shown
            assert not mask.masked[b, :t].any(), "a prompt token counts in the loss"
            assert not mask.masked[b, length:].any(), "padding counts in the loss"


def test_every_example_draws_its_own() -> None:
    mask = draw([500] * 32, levels=12)
    assert len(set(mask.delimiter.tolist())) > 16
    assert len(set(mask.level.tolist())) > 6
    assert len(set(mask.ratio.tolist())) == 32


def test_draws_follow_their_distributions() -> None:
    mask = draw([10] * 20_000, levels=4)
    shares = torch.bincount(mask.delimiter, minlength=10) / 20_000
    assert (shares - 0.1).abs().max() < 0.01  # U{0..T-1}, 0 included, T never
    shares = torch.bincount(mask.level, minlength=4) / 20_000
    assert (shares - 0.25).abs().max() < 0.015
    # p = cos(u), u uniform: P(p > x) = acos(x) / (pi / 2), and the mean is 2 / pi
    assert abs(float(mask.ratio.mean()) - 2 / math.pi) < 0.01
    above = float((mask.ratio > 0.5).double().mean())
    assert abs(above - math.acos(0.5) / (math.pi / 2)) < 0.01
    frames = torch.arange(10)[None, :]
    generated = frames >= mask.delimiter[:, None]
    expected = (generated * mask.ratio[:, None]).sum()
    assert abs(float(mask.masked.sum() / expected) - 1) < 0.01


def test_delimiter_follows_each_own_length() -> None:
    mask = draw([3, 1000] * 500)
    assert int(mask.delimiter[0::2].max()) == 2
    assert int(mask.delimiter[1::2].max()) > 900


def test_same_generator_state_gives_the_same_mask() -> None:
    first, second, other = draw([40] * 4), draw([40] * 4), draw([40] * 4, seed=1)
    assert torch.equal(first.masked, second.masked)
    assert not torch.equal(first.masked, other.masked)


def test_single_frames_are_never_prompt() -> None:
    mask = draw([1] * 100)
    assert int(mask.delimiter.max()) == 0
    assert 20 < int(mask.masked.sum()) < 95


def test_levels_can_be_drawn_unevenly() -> None:
    lengths = torch.tensor([10] * 20_000)
    weights = torch.tensor([6.0, 3.0, 0.0, 1.0])
    practice = Practice(level_weights=weights)
    mask = draw_mask(lengths, 4, torch.Generator().manual_seed(0), practice)
    shares = torch.bincount(mask.level, minlength=4) / 20_000
    assert (shares - weights / 10).abs().max() < 0.015
    assert shares[2] == 0


def test_levels_can_be_masked_whole() -> None:
    lengths = torch.tensor([10] * 8_000)
    practice = Practice(whole=torch.tensor([0.0, 1.0, 0.5]))
    mask = draw_mask(lengths, 3, torch.Generator().manual_seed(0), practice)
    whole = mask.ratio == 1.0
    shares = [float(whole[mask.level == level].double().mean()) for level in range(3)]
    assert shares[:2] == [0.0, 1.0]
    assert abs(shares[2] - 0.5) < 0.03
    counts = mask.masked.sum(dim=1)
    assert torch.equal(counts[whole], 10 - mask.delimiter[whole])
    assert float(counts[mask.level == 0].double().mean()) < 4.5  # (1 + ... + 10) / 10 * 2 / pi
