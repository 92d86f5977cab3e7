"""Length buckets: every item once, no batch over its size, little padding."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stages.audio.bucketing import bucket_by_length


@given(st.lists(st.integers(0, 500), max_size=60), st.integers(1, 2000), st.integers(1, 9))
def test_batches_hold_everything_once_within_bounds(
    lengths: list[int], limit: int, most: int
) -> None:
    batches = bucket_by_length(lengths, max_total=limit, max_items=most)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        assert len(batch) <= most
        assert len(batch) == 1 or longest * len(batch) <= limit


def test_like_lengths_go_together() -> None:
    assert bucket_by_length([9, 1, 10, 2], max_total=20) == [[1, 3], [0, 2]]
