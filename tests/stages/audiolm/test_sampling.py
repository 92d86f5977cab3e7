"""Sampling: against loops, by distribution, and what is never chosen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from stages.audiolm.sampling import Sampling, sample
from stages.errors import DataMismatch

CASES = [
    Sampling(),
    Sampling(temperature=0.0),
    Sampling(temperature=0.5, top_k=3),
    Sampling(top_p=0.6),
    Sampling(temperature=1.5, top_k=5, top_p=0.8),
    Sampling(top_k=1),
    Sampling(top_p=1e-9),
    Sampling(top_k=1000, top_p=1.0),
]


@pytest.mark.parametrize("sampling", CASES)
def test_agrees_with_loops(sampling: Sampling, choose_naively: Callable[..., int]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(200, 9, generator=generator)
    quantiles = torch.rand(200, generator=generator)
    expected = [
        choose_naively(row, quantile, sampling)
        for row, quantile in zip(logits.tolist(), quantiles.tolist(), strict=True)
    ]
    assert sample(logits, quantiles, sampling).tolist() == expected


def test_one_likeliest_is_greedy() -> None:
    logits = torch.randn(50, 9)
    for sampling in (Sampling(top_k=1), Sampling(top_p=1e-9)):
        chosen = sample(logits, torch.rand(50), sampling)
        assert torch.equal(chosen, sample(logits, torch.rand(50), Sampling(temperature=0.0)))


@pytest.mark.parametrize("temperature", [1e-19, 1e-21, 1e-38, 1e-46, 5e-324])
def test_a_tiny_temperature_is_greedy(temperature: float) -> None:
    logits = 100 * torch.randn(50, 9)
    chosen = sample(logits, torch.rand(50), Sampling(temperature=temperature))
    assert torch.equal(chosen, logits.argmax(dim=-1))


def test_frequencies() -> None:
    logits = torch.tensor([2.0, 0.0, 1.0, -1.0])
    quantiles = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    chosen = sample(logits.expand(20_000, -1), quantiles, Sampling(temperature=0.7, top_k=3))
    frequencies = torch.bincount(chosen, minlength=4) / 20_000
    expected = torch.tensor([2.0, 0.0, 1.0, -torch.inf]).div(0.7).softmax(-1)
    assert (frequencies - expected).abs().max() < 0.01


def test_the_highest_quantile_chooses_nothing_that_was_ruled_out() -> None:
    """However the sum of the weights is rounded."""
    generator = torch.Generator().manual_seed(0)
    highest = torch.full((500,), 1 - 2.0**-24)
    logits = torch.randn(500, 64, generator=generator)
    logits[:, 32:] -= 50
    assert int(sample(logits, highest, Sampling(top_k=32)).max()) < 32


@pytest.mark.parametrize(
    "change",
    [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": 0}, {"top_p": 0.0},
     {"top_p": 1.1}, {"top_p": float("nan")}],
)  # fmt: skip
def test_refusals(change: dict[str, float]) -> None:
    with pytest.raises(DataMismatch):
        Sampling(**change)  # type: ignore[arg-type]
