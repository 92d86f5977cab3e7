"""The file `decode --trace` writes: for every token, which pass set it and how surely."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from stages.errors import StageFailure
from stages.shards.rows import ID
from stages.shards.writer import atomic_path, cannot_write
from stages.soundstorm.decoding import DecodeTrace


class TraceFile:
    """A Parquet file that appears whole when the block it is used in ends.

    One row an utterance: `id`; `passes`, `list<fixed_size_list<int16, levels>>`, counted from 1,
    0 where a token was given; and `confidence`, likewise of float32, NaN where given. Both have
    the frames of `acoustic`.
    """

    def __init__(self, path: Path, *, levels: int) -> None:
        self._path = path
        self._schema = pa.schema(
            [
                ID,
                pa.field("passes", pa.list_(pa.list_(pa.int16(), levels))),
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
        if error is None:
            self._stack.__exit__(kind, error, trace)
            return
        with suppress(StageFailure):  # the block's own error goes on, not as one of the trace's
            self._stack.__exit__(kind, error, trace)

    def add(self, row_id: str, trace: DecodeTrace) -> None:
        """Write one row's trace, `[T, levels]`.

        Raises:
            StageFailure: if the file cannot be written.
        """
        columns = [
            pa.array([row_id]),
            _frames(trace.passes, self._schema.field("passes").type),
            _frames(trace.confidence, self._schema.field("confidence").type),
        ]
        try:
            self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        except OSError as error:
            raise cannot_write(self._path, error) from error


def _frames(values: Tensor, kind: pa.DataType) -> pa.Array:
    """One list of frames from `[T, levels]`."""
    flat = pa.array(values.numpy().reshape(-1)).cast(kind.value_type.value_type)
    frames = pa.FixedSizeListArray.from_arrays(flat, kind.value_type.list_size)
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), frames).cast(kind)
