"""What `inspect` counts."""

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from stages.shards.provenance import Provenance, StageRecord
from stages.shards.reader import open_rows
from stages.shards.rows import ID, SEMANTIC, acoustic_field
from stages.shards.spec import TokenSpec
from stages.shards.summary import summarise
from stages.shards.writer import write_shard


@pytest.mark.parametrize(
    ("kind", "field", "levels", "tokens"),
    [
        ("semantic", SEMANTIC, 1, [1, 2, 2]),
        ("acoustic", acoustic_field(2), 2, [[1, 2], [1, 3], [1, 3]]),
    ],
)
def test_a_row_without_tokens_counts_as_a_row_of_no_frames(tmp_path, kind, field, levels, tokens):
    spec = TokenSpec(
        kind=kind,
        name="toy",
        fingerprint="f",
        frame_rate=Fraction(25),
        codebook_size=8,
        levels=levels,
    )
    record = StageRecord(stage=f"tokenize-{kind}", version="1", settings={}, tokens=spec)
    codes = np.array(tokens, np.uint16)
    rows = [{"id": "a", kind: codes}, {"id": "b", kind: codes[:0]}, {"id": "c"}]
    path = tmp_path / "x.parquet"
    write_shard(path, [rows], pa.schema([ID, field]), Provenance((record,)))
    with open_rows(path) as source:
        summary = summarise(source)
    assert summary["rows"] == 3
    assert summary[kind].startswith(f"3 frames of {levels} x 8 at 25 Hz")
    assert "in 2 rows" in summary[kind]
    assert summary["codes_in_use"] == {kind: [2] if levels == 1 else [1, 2]}
