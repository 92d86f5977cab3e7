"""Arrow streams on standard input and output, whose end can be told from a producer's death.

An Arrow IPC stream that is cut between two batches looks like one that ended, so the last batch
is empty and carries the number of rows before it.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, Final, cast

import pyarrow as pa

from stages.errors import DataMismatch, StageFailure
from stages.shards.provenance import Provenance
from stages.shards.reader import ShardSet
from stages.shards.rows import Row, batch_from_rows, check_schema, rows_from_batch
from stages.shards.source import RowSource

STREAM_MAGIC: Final = b"\xff\xff\xff\xff"
PARQUET_MAGIC: Final = b"PAR1"
TRAILER_KEY: Final = b"soundstorm.rows"
FLUSH_SECONDS = 0.25
FLUSH_ROWS = 64


class StreamWriter:
    """Writes rows as an Arrow stream, soon enough that the next stage can start at once."""

    def __init__(self, sink: BinaryIO, schema: pa.Schema, provenance: Provenance) -> None:
        self._schema = schema.with_metadata(provenance.to_metadata())
        self._sink = sink
        self._writer = pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), self._schema)
        # Arrow keeps the header back until a batch comes. With it, the next stage can load its
        # models while this one makes its first row.
        self._writer.write_batch(batch_from_rows([], self._schema))
        sink.flush()
        self._waiting: list[Row] = []
        self._flushed = time.monotonic()
        self.rows = 0

    def write(self, row: Row) -> None:
        """Add a row; a slow producer's rows go out one by one, a fast one's in batches."""
        self._waiting.append(row)
        late = time.monotonic() - self._flushed >= FLUSH_SECONDS
        if late or len(self._waiting) >= FLUSH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_batch(batch_from_rows(self._waiting, self._schema))
            self._sink.flush()
            self.rows += len(self._waiting)
            self._waiting = []
        self._flushed = time.monotonic()

    def finish(self) -> None:
        """End the stream with its row count; without this call a reader knows it was cut."""
        self._flush()
        self._writer.write_batch(
            batch_from_rows([], self._schema), custom_metadata={TRAILER_KEY: str(self.rows)}
        )
        self._writer.close()
        self._sink.flush()


class StreamSource(RowSource):
    """Rows of an Arrow stream, each batch as it arrives."""

    def __init__(self, file: BinaryIO, *, where: str) -> None:
        self.where = where
        self.num_rows = None
        self._file = file
        try:
            self._reader = pa.ipc.open_stream(pa.PythonFile(file, mode="r"))
        except (pa.ArrowInvalid, OSError):
            raise StageFailure(f"{where} ended inside its header: its producer failed") from None
        schema = self._reader.schema
        self.provenance = Provenance.from_metadata(schema.metadata, where=where)
        self.schema = schema.remove_metadata()
        check_schema(self.schema, where=where)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[list[Row]]:
        """Batches up to the trailer.

        Raises:
            StageFailure: if the stream is cut, its row count is wrong, or another follows it.
        """
        del columns
        count = 0
        while True:
            try:
                batch, metadata = self._reader.read_next_batch_with_custom_metadata()
            except StopIteration:
                raise StageFailure(
                    f"{self.where} ended after {count} rows without saying that it was complete: "
                    "its producer failed"
                ) from None
            except (pa.ArrowInvalid, OSError):
                raise StageFailure(
                    f"{self.where} was cut off after {count} rows: its producer failed"
                ) from None
            if metadata is not None and TRAILER_KEY in metadata:
                self._check_trailer(metadata[TRAILER_KEY], count)
                self._check_end(count)
                return
            count += batch.num_rows
            if batch.num_rows:
                yield rows_from_batch(batch, where=self.where)

    def _check_trailer(self, stated: bytes, count: int) -> None:
        if stated != str(count).encode():
            raise StageFailure(
                f"{self.where} brought {count} rows where its end says "
                f"{stated.decode(errors='replace')}: rows were lost on the way"
            )

    def _check_end(self, count: int) -> None:
        """Of two streams one after the other, the second's rows would be lost without a word."""
        # Arrow's own end, which tells nothing more: one that is cut has lost no rows.
        with suppress(StopIteration, pa.ArrowInvalid, OSError):
            self._reader.read_next_batch_with_custom_metadata()
        if self._file.read(1):
            raise StageFailure(
                f"{self.where} goes on after a stream of {count} rows: give each stream a run of "
                "its own"
            )


class SpooledShard(ShardSet):
    """A Parquet file that came on standard input: its footer is at its end, so it is kept first."""

    def __init__(self, file: BinaryIO, *, where: str) -> None:
        with tempfile.NamedTemporaryFile(suffix=".parquet", delete=False) as spool:
            self._spool = Path(spool.name)
            try:
                self._keep(file, spool, where)
                with self._called(where):
                    super().__init__([self._spool])
            except BaseException:  # interrupted, too: it may be large
                self.close()
                raise
        self.where = where

    def _keep(self, file: BinaryIO, spool: IO[bytes], where: str) -> None:
        seam = PARQUET_MAGIC + PARQUET_MAGIC  # the end of one file and the beginning of the next
        last = b""
        try:
            while piece := file.read(1 << 20):
                if seam in last + piece:
                    raise DataMismatch(
                        f"{where} has several Parquet files one after another: give their paths, "
                        "or their folder"
                    )
                spool.write(piece)
                last = piece[-len(seam) :]
            spool.flush()
        except OSError as error:
            raise StageFailure(
                f"{where} cannot be kept in {self._spool.parent} ({error.strerror}): free "
                "space there, or set TMPDIR"
            ) from None

    @contextmanager
    def _called(self, where: str) -> Iterator[None]:
        """What is wrong with the file is said of what came, not of where it is kept."""
        try:
            yield
        except DataMismatch as error:
            raise StageFailure(
                f"{where}: {str(error).replace(str(self._spool), 'the Parquet file')}"
            ) from None

    def _read(self, path: Path, columns: Sequence[str] | None = None) -> Iterator[list[Row]]:
        with self._called(self.where):
            yield from super()._read(path, columns)

    def _require_unique_ids(self) -> None:
        with self._called(self.where):
            super()._require_unique_ids()

    def close(self) -> None:
        self._spool.unlink(missing_ok=True)


class _Rejoined(io.RawIOBase):
    """A file with the bytes that were read ahead of it put back."""

    def __init__(self, head: bytes, rest: io.BufferedIOBase) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        # `read1` gives what has come; `read` would wait for a bufferful, many rows of it.
        piece = self._head[: len(buffer)] or self._rest.read1(len(buffer))
        self._head = self._head[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


def open_stdin() -> RowSource:
    """Rows from standard input, an Arrow stream or a Parquet file.

    Raises:
        DataMismatch: if standard input is a terminal, or holds neither.
        StageFailure: if it ended before its first bytes: the producer failed.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise DataMismatch("there is nothing on standard input: give a path, or pipe a stage in")
    stdin = cast("io.BufferedReader", sys.stdin.buffer)
    return open_stream(stdin, where="standard input")


def open_stream(file: io.BufferedIOBase, *, where: str) -> RowSource:
    """Rows from a binary file that need not seek (see `open_stdin`)."""
    head = file.read(4)
    joined = io.BufferedReader(_Rejoined(head, file), buffer_size=1 << 16)
    if head == STREAM_MAGIC:
        return StreamSource(joined, where=where)
    if head == PARQUET_MAGIC:
        return SpooledShard(joined, where=where)
    if len(head) < 4:
        raise StageFailure(f"{where} ended before its first row: its producer failed")
    raise DataMismatch(f"{where} is neither an Arrow stream nor a Parquet file of token shards")


def binary_stdout() -> BinaryIO:
    """Standard output for data.

    Raises:
        DataMismatch: if it is a terminal, which would get bytes.
    """
    if sys.stdout.isatty():
        raise DataMismatch("standard output is a terminal: give -o a path, or pipe into a stage")
    return sys.stdout.buffer
