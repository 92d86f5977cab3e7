"""Batches of utterances of like length, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence


def bucket_by_length(
    lengths: Sequence[int], *, max_total: int, max_items: int | None = None
) -> list[list[int]]:
    """Group items into batches of at most `max_total` units, padding counted.

    Args:
        lengths: of the items, in any one unit (samples, frames).
        max_total: most that the longest length of a batch times its items may be; an item that
            is longer alone makes a batch of its own.
        max_items: most items in a batch.

    Returns:
        Batches of indices into `lengths`, each sorted by length, together every index once.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda item: (lengths[item], item)):
        # Sorted, so the newcomer is the longest: it decides what the padded batch would hold.
        full = (
            not batches
            or lengths[index] * (len(batches[-1]) + 1) > max_total
            or (max_items is not None and len(batches[-1]) >= max_items)
        )
        if full:
            batches.append([])
        batches[-1].append(index)
    return batches
