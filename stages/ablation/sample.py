"""The utterances of an ablation, in parts so small that settings can take turns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from stages.evaluation.comparison import spread
from stages.shards.partition import Shard, part_name
from stages.shards.provenance import hash_json
from stages.shards.rows import Row
from stages.shards.source import RowSource, WorkUnit

MOST_PARTS = 8
MOST_ROWS = 16


class Sample(RowSource):
    """Some rows of a source, sorted by id and kept in memory.

    Its parts are at most `MOST_ROWS` rows each, and where there are as many rows at least
    `MOST_PARTS`, so that a slow minute of the machine meets all settings and not one.
    """

    def __init__(self, source: RowSource, limit: int | None = None) -> None:
        """
        Args:
            source: of the rows; read here, and not needed afterwards.
            limit: take only so many, spread evenly over the sorted ids.
        """
        rows = sorted(source.rows(), key=lambda row: str(row.get("id")))
        self._rows = spread(rows, limit)
        self.where = source.where
        self.schema = source.schema
        self.provenance = source.provenance.of_set()
        self.num_rows = len(self._rows)
        self.files = source.files
        size = max(1, min(MOST_ROWS, -(-len(self._rows) // MOST_PARTS)))
        self._parts = [
            self._rows[start : start + size] for start in range(0, max(1, len(self._rows)), size)
        ]

    @property
    def parts(self) -> int:
        """How many there are; part i of them is `Shard(i, parts)`."""
        return len(self._parts)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[list[Row]]:
        for part in self._parts:
            yield [{name: row[name] for name in columns or row if name in row} for row in part]

    def work_units(self, shard: Shard, rows_per_shard: int) -> list[WorkUnit]:
        """One a part, whatever number of rows is wished for."""
        del rows_per_shard
        return [
            WorkUnit(
                name=part_name(index, self.parts),
                num_rows=len(part),
                provenance=self.provenance,
                fingerprint=lambda part=part: _content(part),  # type: ignore[misc]
                batches=lambda part=part: iter([part]),  # type: ignore[misc]
            )
            for index, part in shard.of(list(enumerate(self._parts)))
        ]


def _content(rows: Sequence[Row]) -> str:
    """SHA-256 hex of all that rows hold."""
    return hash_json([{name: _plain(value) for name, value in row.items()} for row in rows])


def _plain(value: Any) -> Any:
    """What JSON can hold in place of a column's value."""
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value, dtype="<u2").tobytes()
        return [hashlib.sha256(content).hexdigest(), list(value.shape)]
    if isinstance(value, pa.Array):
        content = pa.RecordBatch.from_arrays([value], [""]).serialize()
        return [hashlib.sha256(content).hexdigest(), str(value.type)]
    return value
