"""The control set: the same tokens after the prompt, in another order."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.shards.reader import open_rows
from tests.scripts import run_script

run = partial(run_script, "shuffle_semantic.py")


def test_only_the_order_after_the_prompt_changes(pipeline, tmp_path: Path) -> None:
    output = tmp_path / "shuffled"
    done = run(pipeline.full, output, "--keep-seconds", "1/2")
    assert done.returncode == 0, done.stderr
    with open_rows(pipeline.full) as source, open_rows(output) as shuffled:
        before, after = list(source.rows()), list(shuffled.rows())
        spec = source.provenance.require_tokens("semantic", where="full")
        spec.require_same(
            shuffled.provenance.require_tokens("semantic", where="shuffled"), ours="a", theirs="b"
        )
    kept = int(spec.frame_rate / 2)
    for old, new in zip(before, after, strict=True):
        was, now = list(old["semantic"]), list(new["semantic"])
        assert now[:kept] == was[:kept]
        assert now[kept:] != was[kept:]
        assert sorted(now) == sorted(was)
        assert new["id"] == old["id"]
        assert [list(frame) for frame in new["acoustic"]] == [list(f) for f in old["acoustic"]]


def test_what_cannot_be_shuffled_is_told(pipeline, tmp_path: Path) -> None:
    nowhere = run(tmp_path / "nowhere", tmp_path / "out")
    assert nowhere.returncode == 2
    assert nowhere.stderr.startswith("shuffle-semantic: ")
    assert len(nowhere.stderr.splitlines()) == 1
    (shard,) = Path(pipeline.full).glob("*.parquet")
    table = pq.read_table(shard)
    tokens = table["semantic"].to_pylist()
    lost = table["id"][1].as_py()
    tokens[1] = None
    column = table.schema.get_field_index("semantic")
    field = table.schema.field(column)
    holed = tmp_path / "holed.parquet"
    pq.write_table(table.set_column(column, field, pa.array(tokens, field.type)), holed)
    done = run(holed, tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr == f"shuffle-semantic: {lost}: the row has no semantic tokens to shuffle\n"
    with open_rows(str(tmp_path / "out")) as shuffled:
        assert len(list(shuffled.rows())) == len(tokens) - 1


def test_the_input_is_not_written_over(pipeline) -> None:
    (shard,) = Path(pipeline.full).glob("*.parquet")
    before = shard.read_bytes()
    for tokens, output in ((pipeline.full, pipeline.full), (shard, pipeline.full), (shard, shard)):
        refused = run(tokens, output)
        assert refused.returncode == 2
        assert refused.stderr == (
            f"shuffle-semantic: {output} is the input, too: name another folder as the output\n"
        )
    assert shard.read_bytes() == before
