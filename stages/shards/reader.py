"""Reading token shards: a file, a folder of parts, a glob, several of them, or standard input."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.errors import DataMismatch
from stages.shards.partition import WHOLE, Shard, parse_part_name, part_name
from stages.shards.provenance import Provenance, hash_file
from stages.shards.rows import Row, check_schema, rows_from_batch
from stages.shards.source import ROWS_PER_BATCH, RowSource, WorkUnit


def open_rows(source: str | Path | Sequence[str | Path]) -> RowSource:
    """Open token shards, or standard input where `source` is `-`.

    Raises:
        DataMismatch: if there is nothing, no shard, or shards that do not fit together.
        StageFailure: if standard input is empty or cut short.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    if [str(item) for item in sources] == ["-"]:
        from stages.shards.pipes import open_stdin

        return open_stdin()
    if "-" in map(str, sources):
        raise DataMismatch("`-` stands alone: give either standard input or paths")
    return ShardSet([Path(item) for item in sources])


class ShardSet(RowSource):
    """Parquet shards whose tokens fit together, in the order of their names."""

    def __init__(self, sources: Sequence[Path]) -> None:
        self.where = " ".join(str(source) for source in sources)
        self._sources = sources
        self.files = [file for source in sources for file in _files_of(source)]
        self._missing = [part for source in sources for part in _missing_parts(source)]
        first, *others = self.files
        handle = open_parquet(first)
        self.schema = handle.schema_arrow.remove_metadata()
        provenance = Provenance.from_metadata(handle.schema_arrow.metadata, where=str(first))
        check_schema(self.schema, where=str(first))
        self.num_rows = handle.metadata.num_rows
        self._rows_of = {first: handle.metadata.num_rows}
        self._provenance_of = {first: provenance}
        # Not the first shard's own: which one is first depends on what other jobs have made yet.
        self.provenance = provenance.of_set() if others else provenance
        self.failed_rows = provenance.failed
        firsts = {first.parent: first}
        for path in others:
            self._join(path, first)
            elder = firsts.setdefault(path.parent, path)
            if parse_part_name(path.name) and parse_part_name(elder.name):
                self._provenance_of[path].require_same_making(
                    self._provenance_of[elder], ours=str(path), theirs=str(elder)
                )
        self._unique = False

    def _join(self, path: Path, first: Path) -> None:
        handle = open_parquet(path)
        schema = handle.schema_arrow.remove_metadata()
        check_schema(schema, where=str(path))
        provenance = Provenance.from_metadata(handle.schema_arrow.metadata, where=str(path))
        provenance.require_same_tokens(self.provenance, ours=str(path), theirs=str(first))
        missing = set(self.schema.names) ^ set(schema.names)
        if missing:
            raise DataMismatch(
                f"{path} and {first} do not have the same columns ({', '.join(sorted(missing))}): "
                "they are not of one set"
            )
        for field in self.schema:
            kind = schema.field(field.name).type
            if kind != field.type:
                raise DataMismatch(
                    f"the column `{field.name}` is {kind} in {path} and {field.type} in {first}: "
                    "they are not of one set"
                )
        self._rows_of[path] = handle.metadata.num_rows
        self._provenance_of[path] = provenance
        self.failed_rows += provenance.failed
        self.num_rows = (self.num_rows or 0) + handle.metadata.num_rows

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[list[Row]]:
        self._require_parts(WHOLE)
        self._require_unique_ids()
        for path in self.files:
            yield from self._read(path, columns)

    def _read(self, path: Path, columns: Sequence[str] | None = None) -> Iterator[list[Row]]:
        """The rows of one of the files."""
        return read_parquet(path, columns=columns)

    def _require_parts(self, shard: Shard) -> None:
        """Refuse a set that lacks parts of this job; the other jobs' may still be made."""
        for folder, index, count in self._missing:
            if index % shard.count == shard.index:
                raise DataMismatch(
                    f"{folder} is not a whole set ({part_name(index, count)} is missing): run its "
                    "stage to the end"
                )

    def _require_unique_ids(self) -> None:
        """Refuse a set in which two rows have one id, before any work is done on it."""
        if self._unique:
            return
        places: dict[str, Path] = {}
        for path in self.files:
            for batch in self._read(path, ["id"]):
                for row in batch:
                    name = row["id"]
                    if name and name in places:
                        raise DataMismatch(
                            f"two rows have the id {name}, in {places[name]} and in {path}: an id "
                            "must be unique in a set"
                        )
                    places[name] = path
        self._unique = True

    def work_units(self, shard: Shard, rows_per_shard: int) -> list[WorkUnit]:
        """One output shard for each input shard, under the same name where those make one set.

        A job of an array takes the parts whose numbers are its own modulo n, which is
        `sorted(inputs)[i::n]`.
        """
        del rows_per_shard
        parts = [parse_part_name(path.name) for path in self.files]
        counts = {part[1] for part in parts if part}
        named = None not in parts and len(set(parts)) == len(parts) and len(counts) == 1
        # Where parts get new numbers, a missing one would shift those of all that follow.
        self._require_parts(shard if named else WHOLE)
        self._require_unique_ids()
        count = len(self.files)
        numbers = [part[0] if named and part else index for index, part in enumerate(parts)]
        return [
            WorkUnit(
                name=path.name if named else part_name(index, count),
                num_rows=self._rows_of[path],
                provenance=self._provenance_of[path],
                fingerprint=lambda path=path: hash_file(path),  # type: ignore[misc]
                batches=lambda path=path: self._read(path),  # type: ignore[misc]
            )
            for index, path in zip(numbers, self.files, strict=True)
            if index % shard.count == shard.index
        ]


def is_token_set(source: str) -> bool:
    """Whether a path is a shard or a folder that holds shards (rather than audio)."""
    path = Path(source)
    if path.is_dir():
        return any(path.glob("*.parquet"))
    return path.suffix == ".parquet"


def _files_of(source: Path) -> list[Path]:
    """The shards behind one path, sorted."""
    if source.is_dir():
        files = sorted(source.glob("*.parquet"))
        parts = [file for file in files if parse_part_name(file.name)]
        if not files:
            raise DataMismatch(f"{source} holds no .parquet shard: give a folder a stage wrote")
        return parts or files
    if source.exists():
        return [source]
    files = sorted(map(Path, glob.glob(str(source), recursive=True)))  # noqa: PTH207
    if not files:
        raise DataMismatch(f"{source} does not exist: give a shard, a folder of shards, or `-`")
    return files


def _missing_parts(source: Path) -> list[tuple[Path, int, int]]:
    """Folder, index and count of each part that a folder's set of parts lacks.

    Raises:
        DataMismatch: if the folder holds parts of two sets.
    """
    found = source.glob("part-*.parquet") if source.is_dir() else ()
    numbers = [number for path in found if (number := parse_part_name(path.name))]
    counts = sorted({count for _, count in numbers})
    if len(counts) > 1:
        raise DataMismatch(
            f"{source} mixes sets of {' and '.join(map(str, counts))} parts: remove the old one"
        )
    present = {index for index, _ in numbers}
    return [
        (source, index, count) for count in counts for index in range(count) if index not in present
    ]


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file.

    Raises:
        DataMismatch: if it is no Parquet file, or is cut short.
    """
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataMismatch(f"{path} is no whole Parquet file ({reason}): make it again") from None


def read_parquet(path: Path, *, columns: Sequence[str] | None = None) -> Iterator[list[Row]]:
    """The rows of one shard in batches.

    Raises:
        DataMismatch: if its data is damaged.
    """
    handle = open_parquet(path)
    try:
        for batch in handle.iter_batches(
            batch_size=ROWS_PER_BATCH, columns=list(columns) if columns else None
        ):
            yield rows_from_batch(batch, where=str(path))
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataMismatch(f"{path} has damaged data ({reason}): make it again") from None
