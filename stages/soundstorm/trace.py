"""The file `decode --trace` writes: for every token, which pass set it and how surely."""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from stages.errors import StageFailure
from stages.shards.rows import ID
from stages.shards.writer import atomic_path, cannot_write
from stages.soundstorm.decoding import DecodeTrace

ROWS_PER_GROUP = 256
"""Utterances written at once: the footer grows with every time."""

_MAKER = b"soundstorm.trace"


class _NothingNewError(Exception):
    """Leaves the block of a file that is not to appear."""


class TraceFile:
    """A Parquet file that appears whole when the block it is used in ends.

    One row an utterance: `id`; `passes`, `list<fixed_size_list<int32, levels>>`, counted from 1,
    0 where a token was given; and `confidence`, likewise of float32, NaN where given. Both have
    the frames of `acoustic`. Where nothing is added, a file that is there stays.
    """

    maker: str = ""
    """Identity of what decodes: settings and models."""

    def __init__(self, path: Path, *, levels: int) -> None:
        self._path = path
        self._added: set[str] = set()
        self._waiting: list[tuple[str, DecodeTrace]] = []
        self._schema = pa.schema(
            [
                ID,
                pa.field("passes", pa.list_(pa.list_(pa.int32(), levels))),
                pa.field("confidence", pa.list_(pa.list_(pa.float32(), levels))),
            ]
        )

    def __enter__(self) -> TraceFile:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self._path))
            self._writer = stack.enter_context(pq.ParquetWriter(temporary, self._schema))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and not self._added and self._path.exists():
            error = _NothingNewError()
        if error is None:
            with self._stack:
                self._write_waiting()
                self._writer.add_key_value_metadata({_MAKER: self.maker.encode()})
            return
        with suppress(StageFailure):  # the block's own error goes on, not as one of the trace's
            self._stack.__exit__(type(error), error, trace)

    def add(self, row_id: str, trace: DecodeTrace) -> None:
        """Take one row's trace, `[T, levels]`.

        Raises:
            StageFailure: if the file cannot be written.
        """
        self._added.add(row_id)
        self._waiting.append((row_id, trace))
        if len(self._waiting) == ROWS_PER_GROUP:
            self._write_waiting()

    def keep(self, ids: Container[str]) -> None:
        """Take over what the file that is there has of these rows, but for those added anew.

        Only from a file by the same maker: another's passes are not those of this one's tokens.

        Raises:
            StageFailure: if the file cannot be written.
        """
        if not self._added:  # then the file stays as it is
            return
        try:
            earlier = pq.ParquetFile(self._path)
        except (OSError, pa.ArrowException):
            return
        with earlier:
            if (earlier.metadata.metadata or {}).get(_MAKER) != self.maker.encode():
                return
            for batch in earlier.iter_batches(ROWS_PER_GROUP):
                names = batch.column("id").to_pylist()
                mask = [name in ids and name not in self._added for name in names]
                if any(mask):
                    self._write(pa.Table.from_batches([batch.filter(pa.array(mask))]))

    def _write_waiting(self) -> None:
        if not self._waiting:
            return
        names, traces = zip(*self._waiting, strict=True)
        passes, confidence = (field.type for field in list(self._schema)[1:])
        columns = [
            pa.array(names),
            _frames([trace.passes for trace in traces], passes),
            _frames([trace.confidence for trace in traces], confidence),
        ]
        self._waiting.clear()
        self._write(pa.Table.from_arrays(columns, schema=self._schema))

    def _write(self, table: pa.Table) -> None:
        try:
            self._writer.write_table(table)
        except OSError as error:
            raise cannot_write(self._path, error) from error


def _frames(values: Sequence[Tensor], kind: pa.DataType) -> pa.Array:
    """A list of frames from each `[T, levels]`."""
    flat = pa.array(torch.cat(list(values)).numpy().reshape(-1)).cast(kind.value_type.value_type)
    frames = pa.FixedSizeListArray.from_arrays(flat, kind.value_type.list_size)
    ends = torch.tensor([len(value) for value in values]).cumsum(0).tolist()
    return pa.ListArray.from_arrays(pa.array([0, *ends], pa.int32()), frames).cast(kind)
