"""Intervals against what theory says of them."""

from __future__ import annotations

import numpy as np
import pytest

from stages.evaluation.measure import Metric
from stages.evaluation.statistics import estimate, has_metric, ratio_estimate

MEAN = Metric(name="x", title="x", higher_is_better=True)
RATE = Metric(name="r", title="r", higher_is_better=False, ratio=("over", "under"))


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(3.0, 1.0, 400)
    found = estimate(MEAN, [{"x": value} for value in values])
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.high - found.value == pytest.approx(half, rel=0.1)
    assert found.value - found.low == pytest.approx(half, rel=0.1)


def test_a_rate_divides_sums() -> None:
    found = estimate(RATE, [{"over": 1, "under": 1}, {"over": 0, "under": 9}])
    assert found is not None
    assert found.value == pytest.approx(0.1)
    assert found.utterances == 2
    assert (found.low, found.high) == (0.0, 1.0)


def test_the_same_scores_give_the_same_interval() -> None:
    scores = [{"x": value} for value in (1.0, 2.0, 5.0)]
    assert estimate(MEAN, scores) == estimate(MEAN, scores)


def test_equal_scores_have_no_spread() -> None:
    found = estimate(MEAN, [{"x": 2.0}] * 5)
    assert found is not None
    assert (found.low, found.value, found.high) == (2.0, 2.0, 2.0)


def test_one_utterance_has_a_value_but_no_interval() -> None:
    found = estimate(MEAN, [{"x": 2.0}])
    assert found is not None
    assert (found.low, found.value, found.high) == (None, 2.0, None)


def test_nothing_counted_is_no_value() -> None:
    assert estimate(MEAN, []) is None
    assert ratio_estimate(np.zeros(3), np.zeros(3)) is None


def test_what_counts_nothing_is_left_out_of_a_rate() -> None:
    found = ratio_estimate(np.array([1.0, 2.0, 3.0]), np.array([0.0, 5.0, 5.0]))
    assert found is not None
    assert (found.low, found.value, found.high, found.utterances) == (0.4, 0.5, 0.6, 2)
    alone = ratio_estimate(np.array([1.0, 2.0]), np.array([0.0, 5.0]))
    assert alone is not None
    assert (alone.low, alone.value, alone.high, alone.utterances) == (None, 0.4, None, 1)


def test_a_metric_needs_all_of_its_scores() -> None:
    assert has_metric({"x": 0.0}, MEAN)
    assert not has_metric({"x": None}, MEAN)
    assert not has_metric({"over": 1}, RATE)
    assert not has_metric(None, MEAN)
