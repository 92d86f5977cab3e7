"""Short, mid and long utterances, which the paper reports apart (section 4.2, Table 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.audio.reading import audio_seconds
from stages.errors import RowFailure
from stages.evaluation.measure import Metric, Scores, Utterance
from stages.evaluation.statistics import Estimate, estimates_of

BINS = {"short": (4.0, 10.0), "mid": (10.0, 20.0), "long": (20.0, 30.0)}
"""Seconds by name, from the first on and below the second; 30 s itself is long."""

LONGEST = BINS["long"][1]


@dataclass(frozen=True, kw_only=True)
class LengthGroup:
    """The utterances of one of the paper's bins of length (Table 1)."""

    utterances: int

    estimates: dict[str, dict[str, Estimate]]
    """By system, then metric; as in `Comparison`."""


def length_of(seconds: float | None) -> str | None:
    """The bin of a duration; None for one outside all of them, or unknown."""
    if seconds is None:
        return None
    if seconds == LONGEST:
        return "long"
    return next((name for name, (low, high) in BINS.items() if low <= seconds < high), None)


def seconds_of(row: Mapping[str, Any]) -> float | None:
    """How long a row's recording is: as the row says, or else the header of its file.

    None where neither says.
    """
    if row.get("num_samples") and row.get("sample_rate"):
        return float(row["num_samples"] / row["sample_rate"])
    if not row.get("audio"):
        return None
    try:
        return audio_seconds(row["audio"])
    except RowFailure:
        return None


def by_length(
    metrics: Sequence[Metric],
    scores: Mapping[str, Mapping[str, Scores]],
    utterances: Sequence[Utterance],
) -> dict[str, LengthGroup]:
    """Each bin's metrics; nothing where no utterance is in any.

    Args:
        metrics: of the comparison.
        scores: by system, then id.
        utterances: all of them.
    """
    groups: dict[str, list[str]] = {name: [] for name in BINS}
    for utterance in utterances:
        length = length_of(utterance.seconds)
        if length is not None:
            groups[length].append(utterance.id)
    if not any(groups.values()):
        return {}
    return {
        name: LengthGroup(utterances=len(ids), estimates=estimates_of(metrics, scores, ids))
        for name, ids in groups.items()
    }
