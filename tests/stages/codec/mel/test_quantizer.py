"""The residual quantiser: levels, running means, restarts, straight-through gradients."""

from __future__ import annotations

import torch

from stages.codec.mel.quantizer import ResidualQuantizer


def quantizer(levels: int = 3, size: int = 16, dim: int = 4) -> ResidualQuantizer:
    return ResidualQuantizer(dim, levels=levels, size=size, decay=0.9, restart_below=0.2)


def frames(rows: int = 4, count: int = 64, dim: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, count, dim, generator=torch.Generator().manual_seed(seed))


def run(q: ResidualQuantizer, x: torch.Tensor, steps: int = 1, used: int = 3) -> None:
    generator = torch.Generator().manual_seed(1)
    inside = torch.ones(x.shape[:2], dtype=torch.bool)
    for _ in range(steps):
        q(x, inside, torch.full((len(x),), used), generator)


def test_each_level_takes_the_nearest_entry_of_what_is_left() -> None:
    q, x = quantizer(), frames()
    run(q, x, steps=5)
    codes = q.encode(x)
    left = x
    for level in range(3):
        distances = torch.cdist(left.flatten(0, 1), q.entries(level))
        assert torch.equal(codes[..., level].flatten(), distances.argmin(dim=1))
        left = left - q.entries(level)[codes[..., level]]
    torch.testing.assert_close(x - q.decode(codes), left)


def test_more_levels_leave_less_and_the_first_are_the_same() -> None:
    q, x = quantizer(), frames()
    run(q, x, steps=30)
    errors = []
    for levels in (1, 2, 3):
        codes = q.encode(x, levels)
        assert torch.equal(codes, q.encode(x)[..., :levels])
        errors.append((x - q.decode(codes)).square().mean())
    assert errors[0] > errors[1] > errors[2]


def test_entries_move_to_the_mean_of_the_frames_that_chose_them() -> None:
    # Two heaps, two entries, one level: k-means finds their means.
    heaps = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    x = (heaps[:, None] + 0.1 * frames(2, 200, 2)).reshape(1, 400, 2)
    q = ResidualQuantizer(2, levels=1, size=2, decay=0.5, restart_below=0.2)
    run(q, x, steps=40, used=1)
    found = q.entries(0)[q.entries(0)[:, 0].argsort(descending=True)]
    means = x.reshape(2, 200, 2).mean(dim=1)
    torch.testing.assert_close(found, means, atol=1e-3, rtol=0)


def test_it_starts_where_kmeans_is() -> None:
    # Four heaps of two by two: the first level finds one pair, the second what is left.
    places = torch.tensor([[3.0, 1.0], [3.0, -1.0], [-3.0, 1.0], [-3.0, -1.0]])
    x = places.repeat_interleave(50, dim=0) + 0.01 * frames(1, 200, 2)[0]
    q = ResidualQuantizer(2, levels=2, size=2, decay=0.9, restart_below=0.2)
    q.start(x, torch.Generator().manual_seed(0))
    assert q.started
    assert (x - q.decode(q.encode(x[None]))[0]).abs().max() < 0.05
    few = quantizer()
    few.start(frames(1, 3)[0], torch.Generator().manual_seed(0))  # fewer frames than entries
    assert few.entries(0).isfinite().all()


def test_entries_that_nothing_chooses_are_put_to_use() -> None:
    q, x = quantizer(levels=1, size=16), frames()
    run(q, x, used=1)
    with torch.no_grad():
        q.sums[0] = 100.0  # all far away but one
        q.sums[0, 0] = 0.0
    assert len(q.encode(x).unique()) == 1
    run(q, x, steps=60, used=1)
    assert len(q.encode(x).unique()) == 16


def test_gradients_go_straight_through_and_padding_teaches_nothing() -> None:
    q, x = quantizer(), frames().requires_grad_()
    inside = torch.ones(4, 64, dtype=torch.bool)
    inside[0, 10:] = False
    result = q(x, inside, torch.full((4,), 3), torch.Generator().manual_seed(0))
    result.values.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    other, poisoned = quantizer(), x.detach().clone()
    poisoned[0, 10:] = 1e6
    same = other(poisoned, inside, torch.full((4,), 3), torch.Generator().manual_seed(0))
    torch.testing.assert_close(other.sums, q.sums)
    torch.testing.assert_close(same.commitment, result.commitment)


def test_dropped_levels_add_nothing() -> None:
    q, x = quantizer(), frames()
    run(q, x, steps=3)
    q.eval()
    inside = torch.ones(4, 64, dtype=torch.bool)
    used = torch.tensor([1, 2, 3, 3])
    result = q(x, inside, used)
    for row, levels in enumerate(used.tolist()):
        expected = q.decode(result.codes[row : row + 1, :, :levels])
        torch.testing.assert_close(result.values[row : row + 1], expected)


def test_evaluation_changes_nothing() -> None:
    q, x = quantizer(), frames()
    run(q, x)
    before = {name: value.clone() for name, value in q.state_dict().items()}
    run(q.eval(), x)
    assert all(torch.equal(before[name], value) for name, value in q.state_dict().items())
