"""Rows as Python sees them, and their columns as Arrow keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from stages.errors import DataMismatch
from stages.shards.provenance import Provenance

Row = dict[str, Any]
"""One utterance: strings and ints by column; `semantic` is uint16 `[S]`, `acoustic` `[T, Q]`.

A value of another column that Python would not give back as it was is a `pa.Array` of length 1.
"""

ID = pa.field("id", pa.string(), nullable=False)
AUDIO = pa.field("audio", pa.string())
SPEAKER = pa.field("speaker", pa.string())
TEXT = pa.field("text", pa.string())
NUM_SAMPLES = pa.field("num_samples", pa.int64())
SAMPLE_RATE = pa.field("sample_rate", pa.int32())
SEMANTIC = pa.field("semantic", pa.list_(pa.uint16()))
PROMPT_FRAMES = pa.field("prompt_frames", pa.int32())

_ORDER = (
    "id", "audio", "speaker", "text", "num_samples", "sample_rate",
    "semantic", "acoustic", "prompt_frames",
)  # fmt: skip


def acoustic_field(levels: int) -> pa.Field:
    """The `acoustic` column for Q levels: `list<fixed_size_list<uint16, Q>>`, frames of Q."""
    return pa.field("acoustic", pa.list_(pa.list_(pa.uint16(), levels)))


def extend_schema(schema: pa.Schema, fields: Sequence[pa.Field]) -> pa.Schema:
    """A schema with `fields` added or replaced, known columns in their usual order."""
    by_name = {field.name: field for field in schema} | {field.name: field for field in fields}
    known = [by_name.pop(name) for name in _ORDER if name in by_name]
    return pa.schema([*known, *by_name.values()])


def check_schema(schema: pa.Schema, *, where: str) -> None:
    """Refuse columns of the toolkit's names but not its types.

    Raises:
        DataMismatch: if `id` is missing or a column has another type.
    """
    expected = {
        field.name: field.type
        for field in (ID, AUDIO, SPEAKER, TEXT, NUM_SAMPLES, SAMPLE_RATE, SEMANTIC, PROMPT_FRAMES)
    }
    if "id" not in schema.names:
        raise DataMismatch(f"{where} has no column `id`: every row of a token shard has one")
    for field in schema:
        wanted = expected.get(field.name)
        if field.name == "acoustic" and _is_acoustic(field.type):
            continue
        if field.name == "acoustic" or (wanted is not None and field.type != wanted):
            shown = wanted or "list<fixed_size_list<uint16, levels>>"
            raise DataMismatch(
                f"{where} has a column `{field.name}` of type {field.type}; it must be {shown}"
            )


def _is_acoustic(kind: pa.DataType) -> bool:
    if not pa.types.is_list(kind) or not pa.types.is_fixed_size_list(kind.value_type):
        return False
    return bool(kind.value_type.value_type == pa.uint16())


def rows_from_batch(batch: pa.RecordBatch, *, where: str) -> list[Row]:
    """Arrow to rows; lists like tokens become numpy views `[S]` and `[T, Q]` without a copy.

    Raises:
        DataMismatch: naming `where` they came from, if a token is missing inside a row.
    """
    columns = {
        name: _column_to_python(name, column, where)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    return [
        {name: values[index] for name, values in columns.items()} for index in range(batch.num_rows)
    ]


def _column_to_python(name: str, column: pa.Array, where: str) -> list[Any]:
    kind = column.type
    if not (kind == SEMANTIC.type or _is_acoustic(kind)):
        values: list[Any] = column.to_pylist() if _is_plain(kind) else _cells(column)
        return values
    inner = column.values
    levels = kind.value_type.list_size if _is_acoustic(kind) else None
    codes = inner
    if levels:
        codes = inner.values.slice(inner.offset * levels, len(inner) * levels)
    if inner.null_count or codes.null_count:
        if name not in ("semantic", "acoustic"):
            return _cells(column)
        raise DataMismatch(f"{where} has a row with {name} tokens missing inside it: make it again")
    flat = codes.to_numpy(zero_copy_only=False)  # [all S]
    if levels:
        flat = flat.reshape(-1, levels)  # [all T, Q]
    offsets = column.offsets.to_numpy()
    parts: list[Any] = [flat[start:end] for start, end in pairwise(offsets)]
    if column.null_count:  # asking each row imports pyarrow.compute, a sixth of a second
        valid = column.is_valid().to_pylist()
        parts = [part if known else None for part, known in zip(parts, valid, strict=True)]
    return parts


def _is_plain(kind: pa.DataType) -> bool:
    """Whether numbers, strings, lists and dicts of Python hold any value of a type.

    Times are not plain: those of Python end at microseconds and with the year 9999.
    """
    types = pa.types
    if types.is_struct(kind):
        return all(_is_plain(field.type) for field in kind)
    nested = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_dictionary)
    if any(check(kind) for check in nested):
        return _is_plain(kind.value_type)
    plain = (
        types.is_boolean, types.is_integer, types.is_floating,
        types.is_string, types.is_large_string, types.is_null,
    )  # fmt: skip
    return any(check(kind) for check in plain)


def _cells(column: pa.Array) -> list[Any]:
    """A column cut into arrays of one row, which share its memory."""
    return [column.slice(index, 1) for index in range(len(column))]


def batch_from_rows(rows: Sequence[Row], schema: pa.Schema) -> pa.RecordBatch:
    """Rows to Arrow; a column a row lacks is null there."""
    arrays = [_column_from_python([row.get(field.name) for row in rows], field) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _column_from_python(values: list[Any], field: pa.Field) -> pa.Array:
    kind = field.type
    if any(isinstance(value, pa.Array) for value in values):
        return pa.concat_arrays(
            [
                value if isinstance(value, pa.Array) else _column_from_python([value], field)
                for value in values
            ]
        )
    acoustic = _is_acoustic(kind)
    if not (acoustic or kind == SEMANTIC.type):
        return pa.array(values, type=kind)
    parts = [np.asarray([] if value is None else value, dtype=np.uint16) for value in values]
    lengths = [len(part) for part in parts]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = np.concatenate([part.reshape(-1) for part in parts]) if parts else np.empty(0, np.uint16)
    inner: pa.Array = pa.array(flat, type=pa.uint16())
    if acoustic:
        inner = pa.FixedSizeListArray.from_arrays(inner, type=kind.value_type)
    missing = np.array([value is None for value in values], dtype=bool)
    return pa.ListArray.from_arrays(
        pa.array(offsets), inner, type=kind, mask=pa.array(missing) if missing.any() else None
    )


REPEATED_ID = "an earlier row has the same id"


def row_problem(row: Row, provenance: Provenance) -> str | None:
    """Why a row cannot be used, or None: a code past its codebook is never passed on."""
    if not row.get("id"):
        return "the row has no id"
    semantic, acoustic = provenance.tokens("semantic"), provenance.tokens("acoustic")
    for spec in (semantic, acoustic):
        if spec is None:
            continue
        codes = row.get(spec.kind)
        if codes is not None and codes.size and int(codes.max()) >= spec.codebook_size:
            return (
                f"{spec.kind} token {int(codes.max())} is past the codebook of "
                f"{spec.codebook_size} entries of {spec.name}"
            )
    return None
