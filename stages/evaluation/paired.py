"""How far two systems are apart on the same utterances, with 95 % bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.evaluation.measure import Metric, Scores
from stages.evaluation.statistics import Estimate, bootstrap_interval, has_metric

Column = NDArray[np.float64]


def paired_difference(
    metric: Metric, ours: Sequence[Scores], theirs: Sequence[Scores]
) -> Estimate | None:
    """Our metric less theirs, over the utterances that both have it for.

    Utterances are resampled with both systems' scores of them, so what makes an utterance hard for
    both does not widen the interval: two systems whose own intervals overlap may still differ.

    Args:
        metric: of the table.
        ours: by utterance.
        theirs: of the same utterances, in the same order.

    Returns:
        None where no utterance has it.
    """
    both = [
        pair
        for pair in zip(ours, theirs, strict=True)
        if has_metric(pair[0], metric) and has_metric(pair[1], metric)
    ]
    over, under = metric.ratio or (metric.name, None)
    columns: list[Column] = []
    for side in (0, 1):
        columns.append(np.array([pair[side][over] for pair in both], dtype=np.float64))
        ones = np.ones(len(both))
        columns.append(
            ones if under is None else np.array([pair[side][under] for pair in both], np.float64)
        )

    def difference(
        over: Column, under: Column, their_over: Column, their_under: Column, axis: int = -1
    ) -> Any:
        return over.sum(axis) / under.sum(axis) - their_over.sum(axis) / their_under.sum(axis)

    kept = [(column > 0) for column in (columns[1], columns[3])]
    usable = kept[0] & kept[1]  # an utterance without words tells nothing of a rate of words
    return estimate_of([column[usable] for column in columns], difference)


def estimate_of(columns: Sequence[Column], statistic: Callable[..., Any]) -> Estimate | None:
    """A statistic of several scores of each utterance.

    Args:
        columns: each `[U]`.
        statistic: of as many arrays, and `axis`, that of the utterances.
    """
    count = len(columns[0])
    if count == 0:
        return None
    low = high = None
    if count > 1:
        low, high = bootstrap_interval(columns, statistic)
    return Estimate(value=float(statistic(*columns)), low=low, high=high, utterances=count)
