"""How a score goes on with time: medians and quartiles over utterances (paper, Figure 2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Series = tuple[Sequence[float], Sequence[float]]
"""Times in seconds, and an utterance's values at them."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A system's curve; all lists are of one length."""

    seconds: list[float]
    """Rising."""

    median: list[float]

    low: list[float]
    """First quartile of the utterances at each time."""

    high: list[float]
    """Third quartile."""

    utterances: list[int]
    """How many last until then: there are fewer and fewer."""


def curve_of(series: Iterable[Series]) -> Curve | None:
    """The curve of some utterances, whose times are equal or different; None without any."""
    values: dict[float, list[float]] = defaultdict(list)
    for times, scores in series:
        for time, score in zip(times, scores, strict=True):
            values[time].append(score)
    if not values:
        return None
    seconds = sorted(values)
    quartiles = [np.percentile(values[time], [25, 50, 75]).tolist() for time in seconds]
    low, median, high = (list(column) for column in zip(*quartiles, strict=True))
    return Curve(
        seconds=seconds,
        median=median,
        low=low,
        high=high,
        utterances=[len(values[time]) for time in seconds],
    )


def curves_json(curves: Mapping[str, Curve]) -> dict[str, Any]:
    """Systems' curves on one axis: `seconds`, and `systems` by name; null where one has ended."""
    seconds = sorted({time for curve in curves.values() for time in curve.seconds})
    systems = {}
    for name, curve in curves.items():
        place = {time: index for index, time in enumerate(curve.seconds)}
        at = [place.get(time) for time in seconds]
        systems[name] = {
            "median": _placed(curve.median, at, None),
            "low": _placed(curve.low, at, None),
            "high": _placed(curve.high, at, None),
            "utterances": _placed(curve.utterances, at, 0),
        }
    return {"seconds": seconds, "systems": systems}


def _placed(values: Sequence[Any], at: Sequence[int | None], nothing: Any) -> list[Any]:
    """The values at some places, `nothing` where there is no place."""
    return [nothing if index is None else values[index] for index in at]
