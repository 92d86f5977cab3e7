"""Where rows come from: a list of utterances, a set of Parquet shards, or a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from stages.errors import DataMismatch
from stages.shards.partition import Shard, part_name
from stages.shards.provenance import Provenance, hash_json
from stages.shards.rows import AUDIO, ID, SPEAKER, TEXT, Row

ROWS_PER_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class WorkUnit:
    """What makes one output shard, and is skipped whole when its shard is there already."""

    name: str
    """The output file's name, `part-00003-of-00064.parquet`."""

    num_rows: int

    provenance: Provenance
    """Of these rows alone: other shards of the set may have failures or inputs of their own."""

    fingerprint: Callable[[], str]
    """SHA-256 hex of the input; deferred, since it reads files."""

    batches: Callable[[], Iterator[list[Row]]]


class RowSource(ABC):
    """Rows with one schema and one provenance; a context manager that closes what it opened."""

    where: str
    """The source in the user's words, for messages."""

    schema: pa.Schema

    provenance: Provenance
    """Of the set: what is the same in all its shards."""

    num_rows: int | None
    """Rows in all, or None where only the end will tell (a stream)."""

    files: Sequence[Path] = ()
    """The shards it reads."""

    folders: Sequence[Path] = ()
    """Those given to be searched for audio: with shards in one, it would be taken for a set."""

    failed_rows: int = 0
    """Rows that failed in the last stage and are not here, as the shards say."""

    @abstractmethod
    def batches(self, columns: Sequence[str] | None = None) -> Iterator[list[Row]]:
        """Rows in batches, as they arrive; only the named `columns` where given."""

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """All rows, one at a time."""
        for batch in self.batches(columns):
            yield from batch

    def work_units(self, shard: Shard, rows_per_shard: int) -> list[WorkUnit] | None:
        """The source cut into output shards, or None where it cannot be (a stream)."""
        del shard, rows_per_shard
        return None

    def require_columns(self, *names: str) -> None:
        """Refuse a source without these columns.

        Raises:
            DataMismatch: naming the first that is missing and the stage that makes it.
        """
        makers = {
            "semantic": "run tokenize-semantic on it first",
            "acoustic": "run tokenize-acoustic or decode on it first",
            "audio": "start from audio files or a manifest",
        }
        for name in names:
            if name not in self.schema.names:
                hint = makers.get(name, "the set must hold it")
                raise DataMismatch(f"{self.where} has no column `{name}`: {hint}")

    def close(self) -> None:
        """Release what was opened."""
        return

    def __enter__(self) -> RowSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class UtteranceList(RowSource):
    """Utterances found as audio: rows with `id`, `audio`, `speaker`, `text`, sorted by id."""

    def __init__(self, rows: Sequence[Row], *, where: str, folders: Sequence[Path] = ()) -> None:
        self.where, self.folders = where, folders
        self.schema = pa.schema([ID, AUDIO, SPEAKER, TEXT])
        self.provenance = Provenance()
        self.num_rows = len(rows)
        self._rows = sorted(rows, key=lambda row: str(row["id"]))

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[list[Row]]:
        del columns
        for start in range(0, len(self._rows), ROWS_PER_BATCH):
            yield [dict(row) for row in self._rows[start : start + ROWS_PER_BATCH]]

    def work_units(self, shard: Shard, rows_per_shard: int) -> list[WorkUnit]:
        """Every job of an array makes the same number of parts, so names agree without talk."""
        mine = list(shard.of(self._rows))
        longest = -(-len(self._rows) // shard.count)
        parts = max(1, -(-longest // rows_per_shard))
        return [
            self._unit(
                mine[part * rows_per_shard : (part + 1) * rows_per_shard],
                part_name(shard.index + shard.count * part, shard.count * parts),
            )
            for part in range(parts)
        ]

    @staticmethod
    def _unit(rows: list[Row], name: str) -> WorkUnit:
        def batches() -> Iterator[list[Row]]:
            if rows:
                yield [dict(row) for row in rows]

        def fingerprint() -> str:
            return hash_json([[row, _audio_signature(row.get("audio"))] for row in rows])

        return WorkUnit(
            name=name,
            num_rows=len(rows),
            provenance=Provenance(),
            fingerprint=fingerprint,
            batches=batches,
        )


def _audio_signature(path: str | None, edge: int = 1 << 16) -> str | None:
    """Size and both ends of a file: whether it changed, without reading a corpus whole.

    Not its modification time, so that a copied corpus makes the same bytes.
    """
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            head = file.read(edge)
            size = file.seek(0, 2)
            file.seek(max(0, size - edge))
            return hash_json([size, head.hex(), file.read(edge).hex()])
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
