"""The average of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stages.training.ema import WeightAverage


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))


def set_to(module: Counter, value: float) -> None:
    with torch.no_grad():
        module.weight.fill_(value)
        module.get_buffer("count").fill_(int(value))


def test_it_is_the_exponential_mean_with_a_rising_decay() -> None:
    module = Counter()
    average = WeightAverage(module, decay=0.5)
    expected = 0.0
    for step, value in enumerate([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]):
        set_to(module, value)
        average.update(module, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert float(average.state_dict()["weight"]) == pytest.approx(expected)
        assert int(average.state_dict()["count"]) == value
    assert not average.module.training
    assert not average.module.weight.requires_grad


def test_a_decay_of_zero_is_the_last_weights() -> None:
    module = Counter()
    average = WeightAverage(module, decay=0.0)
    set_to(module, 7.0)
    average.update(module, 100)
    assert float(average.state_dict()["weight"]) == 7.0


def test_its_state_comes_back() -> None:
    module = Counter()
    average, other = WeightAverage(module, 0.9), WeightAverage(module, 0.9)
    set_to(module, 3.0)
    average.update(module, 5)
    other.load_state_dict(average.state_dict())
    assert torch.equal(other.state_dict()["weight"], average.state_dict()["weight"])
