"""From utterances' scores to a system's, with 95 % bootstrap intervals over utterances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.evaluation.measure import Metric, Scores

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A system's value of a metric."""

    value: float

    low: float | None
    """Lower end of the 95 % interval; None where one utterance tells nothing of spread."""

    high: float | None

    utterances: int

    def to_json(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "utterances": self.utterances,
        }


def has_metric(scores: Scores | None, metric: Metric) -> bool:
    """Whether an utterance's scores tell of this metric."""
    names = metric.ratio or (metric.name,)
    return scores is not None and all(scores.get(name) is not None for name in names)


def estimate(metric: Metric, scores: Sequence[Scores]) -> Estimate | None:
    """A metric over utterances that all have it; None where nothing was counted.

    A rate is the quotient of two sums (words wrong by words said in the whole set), never the
    mean of utterances' rates, which a short utterance would dominate.
    """
    if metric.ratio is None:
        values = _column(scores, metric.name)
        return ratio_estimate(values, np.ones_like(values))
    over, under = metric.ratio
    return ratio_estimate(_column(scores, over), _column(scores, under))


def estimates_of(
    metrics: Sequence[Metric], scores: Mapping[str, Mapping[str, Scores]], ids: Iterable[str]
) -> dict[str, dict[str, Estimate]]:
    """Each system's metrics over some utterances, by system and metric."""
    estimates: dict[str, dict[str, Estimate]] = {name: {} for name in scores}
    chosen = list(ids)
    for metric in metrics:
        for name, found in scores.items():
            having = [found[row_id] for row_id in chosen if has_metric(found[row_id], metric)]
            value = estimate(metric, having)
            if value is not None:
                estimates[name][metric.name] = value
    return estimates


def ratio_estimate(over: NDArray[np.float64], under: NDArray[np.float64]) -> Estimate | None:
    """sum(over) / sum(under) with a percentile bootstrap over utterances.

    Args:
        over: `[U]`, for example errors of each utterance.
        under: `[U]`, for example words of each utterance; ones make it a mean. Utterances without
            any are left out, since they tell nothing of a rate.

    Returns:
        None where no utterance is left.
    """
    usable = under > 0
    over, under = over[usable], under[usable]
    if not len(over):
        return None
    value = float(over.sum() / under.sum())
    low = high = None
    if len(over) > 1:
        low, high = _interval(over, under)
    return Estimate(value=value, low=low, high=high, utterances=len(over))


def _interval(over: NDArray[np.float64], under: NDArray[np.float64]) -> tuple[float, float]:
    if np.ptp(over / under) == 0:
        value = float(over.sum() / under.sum())
        return value, value
    return bootstrap_interval(
        (over, under), lambda over, under, axis: over.sum(axis) / under.sum(axis)
    )


def bootstrap_interval(
    columns: Sequence[NDArray[np.float64]], statistic: Callable[..., Any]
) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a statistic over utterances.

    Args:
        columns: each `[U]`, U > 1, with values of the same utterances, resampled together.
        statistic: of as many arrays, and `axis`, that of the utterances.
    """
    from scipy.stats import bootstrap

    interval = bootstrap(
        tuple(columns),
        statistic,
        paired=True,
        vectorized=True,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        # BCa breaks down on few utterances with equal scores; percentiles do not.
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _column(scores: Sequence[Scores], name: str) -> NDArray[np.float64]:
    return np.array([score[name] for score in scores], dtype=np.float64)
