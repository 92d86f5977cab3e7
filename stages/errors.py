"""The errors a user can cause, each one sentence: what was wrong, where, what would be right."""

from __future__ import annotations


class SoundStormError(Exception):
    """Base of every error that is reported as one sentence instead of a traceback."""

    exit_code = 1


class StageFailure(SoundStormError):  # noqa: N818 - a failure, not a programming error
    """The work could not be done: a truncated stream, a full disk, a killed producer (exit 1)."""


class DataMismatch(SoundStormError):  # noqa: N818
    """Wrong usage, or data that does not fit: another codec, k-means, rate or version (exit 2)."""

    exit_code = 2


class RowFailure(SoundStormError):  # noqa: N818
    """One utterance is bad; its row goes to `failures.jsonl` and its neighbours go on.

    Raise it inside a row stage with the reason only; the runner adds the row's id.
    """
