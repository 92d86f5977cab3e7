"""Rows and columns: nothing is lost between Python and Arrow."""

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stages.errors import DataMismatch
from stages.shards.provenance import Provenance, StageRecord
from stages.shards.rows import (
    ID,
    SEMANTIC,
    SPEAKER,
    acoustic_field,
    batch_from_rows,
    check_schema,
    extend_schema,
    row_problem,
    rows_from_batch,
)
from stages.shards.spec import TokenSpec

codes = st.integers(0, 65535)
semantic = st.none() | hnp.arrays(np.uint16, st.integers(0, 9), elements=codes)
acoustic = st.none() | hnp.arrays(
    np.uint16, st.tuples(st.integers(0, 7), st.just(4)), elements=codes
)
SCHEMA = pa.schema([ID, SPEAKER, SEMANTIC, acoustic_field(4), pa.field("extra", pa.float64())])


@given(st.lists(st.tuples(st.text(min_size=1), semantic, acoustic), max_size=6), st.data())
def test_rows_survive_arrow_also_as_a_slice(cells, data):
    rows = [
        {"id": name, "speaker": None, "semantic": first, "acoustic": second, "extra": 0.5}
        for name, first, second in cells
    ]
    start = data.draw(st.integers(0, len(rows)))
    back = rows_from_batch(batch_from_rows(rows, SCHEMA).slice(start), where="here")
    for before, after in zip(rows[start:], back, strict=True):
        assert after["id"] == before["id"]
        assert after["extra"] == 0.5
        for name in ("semantic", "acoustic"):
            if before[name] is None:
                assert after[name] is None
            else:
                np.testing.assert_array_equal(after[name], before[name])
                assert after[name].shape == before[name].shape


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("semantic", [1, None]),
        ("acoustic", [[1, 2, 3, 4], None]),
        ("acoustic", [[1, 2, None, 4], [1, 2, 3, 4]]),
    ],
)
def test_a_hole_in_a_row_is_not_closed_by_what_follows(name, tokens):
    kind = SCHEMA.field(name).type
    column = pa.array([tokens, tokens[:1] if name == "semantic" else [[5, 6, 7, 8]]], type=kind)
    batch = pa.RecordBatch.from_arrays([column], names=[name])
    with pytest.raises(DataMismatch, match=f"here has a row with {name} tokens missing inside it"):
        rows_from_batch(batch, where="here")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.timestamp("ns"), [1, None, 3]),
        (pa.timestamp("s", tz="UTC"), [10**12, None, 3]),
        (pa.duration("ns"), [1, None, 3]),
        (pa.time64("ns"), [1, None, 3]),
        (pa.date32(), [10**8, None, 3]),
        (pa.list_(pa.timestamp("ns")), [[1, None], None, []]),
        (pa.struct({"at": pa.timestamp("ns")}), [{"at": 1}, None, {"at": None}]),
        (pa.map_(pa.string(), pa.duration("ns")), [[("a", 1)], None, []]),
        (pa.list_(pa.uint16()), [[1, None], None, [3]]),
        (pa.list_(pa.uint16()), [[1, 2], None, []]),
        (pa.list_(pa.list_(pa.uint16(), 2)), [[[1, 2], None], None, [[3, None]]]),
        (pa.dictionary(pa.int8(), pa.large_string()), ["a", None, "a"]),
        (pa.struct({"a": pa.list_(pa.float32())}), [{"a": [0.1]}, None, {"a": None}]),
        (pa.decimal128(5, 2), [None, None, 3]),
    ],
    ids=str,
)
def test_columns_of_other_names_pass_through_untouched(kind, values):
    column = pa.array(values, type=kind)
    batch = pa.RecordBatch.from_arrays([pa.array(["a", "b", "c"]), column], names=["id", "mine"])
    rows = rows_from_batch(batch, where="here")
    back = batch_from_rows(rows, batch.schema)
    back.validate(full=True)
    assert back.equals(batch)
    fewer = batch_from_rows([rows[2], {"id": "new"}, rows[0]], batch.schema)
    assert fewer.column("mine").equals(pa.array([values[2], None, values[0]], type=kind))
    assert batch_from_rows([], batch.schema).num_rows == 0


@pytest.mark.parametrize("value", [1, 0.5, "a", True, [1, 2], [0.5], {"a": 1}])
def test_what_python_holds_whole_is_pythons_own(value):
    """Such values of other columns can be read, compared and hashed as JSON."""
    batch = pa.RecordBatch.from_pylist([{"id": "a", "mine": value}])
    assert rows_from_batch(batch, where="here") == [{"id": "a", "mine": value}]


def test_known_columns_keep_their_order_and_unknown_ones_follow():
    schema = pa.schema([ID, pa.field("mine", pa.int8()), SEMANTIC])
    extended = extend_schema(schema, [acoustic_field(2), SPEAKER])
    assert extended.names == ["id", "speaker", "semantic", "acoustic", "mine"]
    replaced = extend_schema(extended, [acoustic_field(5)])
    assert replaced.field("acoustic").type == acoustic_field(5).type


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (pa.schema([SPEAKER]), "no column `id`"),
        (pa.schema([ID, pa.field("semantic", pa.list_(pa.int64()))]), "`semantic`"),
        (pa.schema([ID, pa.field("acoustic", pa.list_(pa.uint16()))]), "`acoustic`"),
        (pa.schema([ID, pa.field("num_samples", pa.string())]), "`num_samples`"),
    ],
)
def test_columns_of_other_types_are_refused(schema, said):
    with pytest.raises(DataMismatch, match=said):
        check_schema(schema, where="x.parquet")


def test_a_code_past_its_codebook_is_a_problem_of_its_row():
    spec = TokenSpec(
        kind="semantic", name="k", fingerprint="f", frame_rate=Fraction(25), codebook_size=10
    )
    record = StageRecord(stage="tokenize-semantic", version="1", settings={}, tokens=spec)
    provenance = Provenance((record,))
    assert row_problem({"id": "a", "semantic": np.array([9], np.uint16)}, provenance) is None
    problem = row_problem({"id": "a", "semantic": np.array([10], np.uint16)}, provenance)
    assert problem is not None
    assert "past the codebook of 10" in problem
    assert row_problem({"id": ""}, provenance) == "the row has no id"
