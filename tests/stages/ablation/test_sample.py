"""The parts of an ablation's utterances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.ablation.sample import MOST_ROWS, Sample
from stages.shards.partition import Shard
from stages.shards.provenance import Provenance
from stages.shards.rows import ID, SEMANTIC, Row
from stages.shards.source import RowSource


class Rows(RowSource):
    """Rows in memory, in an order of their own."""

    def __init__(self, count: int, *, token: int = 0, extra: Any = None) -> None:
        self.where, self.schema = "rows", pa.schema([ID, SEMANTIC])
        self.provenance, self.num_rows = Provenance(), count
        self._rows: list[Row] = [
            {"id": f"u{index:03}", "semantic": np.array([token, index]), "extra": extra}
            for index in range(count)
        ]

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[list[Row]]:
        del columns
        yield self._rows[::-1]


def parts(sample: Sample) -> list[list[str]]:
    found = []
    for index in range(sample.parts):
        (unit,) = sample.work_units(Shard(index, sample.parts), 0)
        found.append([row["id"] for batch in unit.batches() for row in batch])
        assert unit.num_rows == len(found[-1])
    return found


@pytest.mark.parametrize(("count", "expected"), [(3, 3), (8, 8), (9, 5), (96, 8), (400, 25)])
def test_settings_take_several_turns_where_there_are_rows(count: int, expected: int) -> None:
    found = parts(Sample(Rows(count)))
    assert len(found) == expected
    assert max(map(len, found)) <= MOST_ROWS
    assert [row_id for part in found for row_id in part] == [f"u{i:03}" for i in range(count)]


def test_a_limit_is_spread_over_the_ids() -> None:
    sample = Sample(Rows(10), 2)
    assert [row["id"] for row in sample.rows(["id"])] == ["u000", "u005"]
    assert all(row.keys() == {"id"} for row in sample.rows(["id"]))


def test_a_part_is_known_by_all_that_is_in_it() -> None:
    def fingerprint(token: int, extra: Any = None) -> str:
        sample = Sample(Rows(2, token=token, extra=extra))
        (unit,) = sample.work_units(Shard(0, sample.parts), 0)
        return unit.fingerprint()

    assert fingerprint(0) == fingerprint(0)
    assert fingerprint(0) != fingerprint(1)
    # What Python does not hold whole is a piece of its Arrow column.
    times = pa.array([0, 1, 2**62], pa.timestamp("s"))
    assert fingerprint(0, times.slice(2, 1)) == fingerprint(0, times.slice(2, 1))
    assert fingerprint(0, times.slice(2, 1)) != fingerprint(0, times.slice(1, 1))
