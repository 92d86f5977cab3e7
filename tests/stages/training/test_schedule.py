"""The learning rate at the steps that matter."""

from __future__ import annotations

import pytest

from stages.training.schedule import learning_rate
from stages.training.settings import OptimiserSettings

PAPER = OptimiserSettings()


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 5e-4 / 20_000),
        (9_999, 2.5e-4),
        (19_999, 5e-4),
        (20_000 + 249_999, 5e-5),  # half way down two decades
        (20_000 + 499_999, 5e-6),
        (10_000_000, 5e-6),
    ],
)
def test_the_paper_s_schedule(step: int, rate: float) -> None:
    assert learning_rate(step, PAPER) == pytest.approx(rate, rel=1e-9)


def test_linear_decay_ends_at_the_final_ratio() -> None:
    settings = OptimiserSettings(
        learning_rate=1.0, warmup_steps=10, decay="linear", decay_steps=100, final_ratio=0.1
    )
    rates = [learning_rate(step, settings) for step in range(200)]
    assert rates[9] == 1.0
    assert rates[59] == pytest.approx(0.55)
    assert rates[109] == rates[199] == pytest.approx(0.1)
    assert max(rates) == 1.0


def test_no_warm_up_and_no_decay() -> None:
    settings = OptimiserSettings(learning_rate=2.0, warmup_steps=0, decay_steps=0, final_ratio=1.0)
    assert learning_rate(0, settings) == learning_rate(99, settings) == 2.0
