"""Differences on the same utterances."""

from __future__ import annotations

import numpy as np
import pytest

from stages.evaluation.measure import Metric
from stages.evaluation.paired import estimate_of, paired_difference
from stages.evaluation.statistics import estimate

QUALITY = Metric(name="quality", title="quality", higher_is_better=True)
WER = Metric(name="wer", title="WER", higher_is_better=False, ratio=("errors", "words"))


def test_a_constant_gain_is_certain_however_much_utterances_differ() -> None:
    random = np.random.default_rng(0)
    theirs = [{"quality": value} for value in random.uniform(1, 5, 40)]
    ours = [{"quality": score["quality"] + 0.25} for score in theirs]
    found = paired_difference(QUALITY, ours, theirs)
    assert found is not None
    assert found.value == pytest.approx(0.25)
    assert found.low == pytest.approx(0.25)
    assert found.high == pytest.approx(0.25)
    both = [estimate(QUALITY, scores) for scores in (ours, theirs)]
    assert both[0] is not None
    assert both[1] is not None
    assert both[0].low is not None
    assert both[1].high is not None
    assert both[0].low < both[1].high  # their own intervals overlap, and say nothing of this


def test_a_rate_is_of_sums() -> None:
    ours = [{"errors": 1, "words": 10}, {"errors": 0, "words": 30}]
    theirs = [{"errors": 3, "words": 10}, {"errors": 1, "words": 30}]
    found = paired_difference(WER, ours, theirs)
    assert found is not None
    assert found.value == pytest.approx(1 / 40 - 4 / 40)
    assert found.utterances == 2


def test_the_interval_is_as_wide_as_a_normal_one() -> None:
    """Of a mean of many differences, which is normal: 1.96 standard errors to each side."""
    random = np.random.default_rng(1)
    gains = random.normal(0.1, 1.0, 400)
    found = paired_difference(
        QUALITY, [{"quality": gain} for gain in gains], [{"quality": 0.0} for _ in gains]
    )
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    expected = 2 * 1.96 * gains.std(ddof=1) / np.sqrt(len(gains))
    assert found.high - found.low == pytest.approx(expected, rel=0.1)


def test_utterances_that_one_system_lacks_are_left_out() -> None:
    ours = [{"quality": 3.0}, {}, {"quality": 4.0}]
    theirs = [{"quality": 1.0}, {"quality": 2.0}, {}]
    found = paired_difference(QUALITY, ours, theirs)
    assert found is not None
    assert (found.value, found.low, found.high, found.utterances) == (2.0, None, None, 1)
    assert paired_difference(QUALITY, [{}], [{"quality": 1.0}]) is None


def test_any_statistic_of_columns() -> None:
    first, second = np.array([1.0, 3.0]), np.array([0.0, 1.0])
    found = estimate_of(
        (first, second), lambda one, other, axis=-1: one.mean(axis) - other.mean(axis)
    )
    assert found is not None
    assert found.value == 1.5
    assert (found.low, found.high) == (1.0, 2.0)
