"""The residual quantiser: levels, what is left over, k-means."""

from __future__ import annotations

import torch

from stages.codec.mel.quantizer import ResidualQuantizer


def frames(rows: int = 4, count: int = 64, dim: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, count, dim, generator=torch.Generator().manual_seed(seed))


def quantizer(levels: int = 3, size: int = 16, dim: int = 4) -> ResidualQuantizer:
    quantizer = ResidualQuantizer(dim, levels=levels, size=size)
    quantizer.start(frames(dim=dim, seed=9).flatten(0, 1), torch.Generator().manual_seed(0))
    return quantizer


def test_each_level_takes_the_nearest_entry_of_what_is_left() -> None:
    q, x = quantizer(), frames()
    codes = q.encode(x)
    left = x
    for level in range(3):
        distances = torch.cdist(left.flatten(0, 1), q.codebooks[level])
        assert torch.equal(codes[..., level].flatten(), distances.argmin(dim=1))
        left = left - q.codebooks[level][codes[..., level]]
    torch.testing.assert_close(x - q.decode(codes), left)


def test_codes_are_the_same_in_bfloat16() -> None:
    q, x = quantizer(size=64), frames(count=256)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        codes = q.encode(x)
    assert torch.equal(codes, q.encode(x))


def test_more_levels_leave_less_and_the_first_are_the_same() -> None:
    q, x = quantizer(), frames()
    errors = []
    for levels in (1, 2, 3):
        codes = q.encode(x, levels)
        assert torch.equal(codes, q.encode(x)[..., :levels])
        errors.append((x - q.decode(codes)).square().mean())
    assert errors[0] > errors[1] > errors[2]


def test_entries_are_the_means_of_the_frames_that_choose_them() -> None:
    # Two heaps, two entries, one level.
    heaps = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    x = (heaps[:, None] + 0.1 * frames(2, 200, 2)).reshape(400, 2)
    q = ResidualQuantizer(2, levels=1, size=2)
    q.start(x, torch.Generator().manual_seed(0))
    found = q.codebooks[0][q.codebooks[0][:, 0].argsort(descending=True)]
    torch.testing.assert_close(found, x.reshape(2, 200, 2).mean(dim=1), atol=1e-3, rtol=0)


def test_levels_are_kmeans_of_what_is_left() -> None:
    # Four heaps of two by two: the first level finds one pair, the second what is left.
    places = torch.tensor([[3.0, 1.0], [3.0, -1.0], [-3.0, 1.0], [-3.0, -1.0]])
    x = places.repeat_interleave(50, dim=0) + 0.01 * frames(1, 200, 2)[0]
    q = ResidualQuantizer(2, levels=2, size=2)
    assert not q.started
    q.start(x, torch.Generator().manual_seed(0))
    assert q.started
    assert (x - q.decode(q.encode(x[None]))[0]).abs().max() < 0.05


def test_the_generator_decides_and_few_frames_do() -> None:
    first, second, other = (ResidualQuantizer(4, levels=3, size=16) for _ in range(3))
    for q, seed in ((first, 0), (second, 0), (other, 1)):
        torch.manual_seed(int(torch.randint(100, ())))
        q.start(frames(1, 3)[0], torch.Generator().manual_seed(seed))  # fewer than entries
        assert q.codebooks.isfinite().all()
    assert torch.equal(first.codebooks, second.codebooks)
    assert not torch.equal(first.codebooks, other.codebooks)
