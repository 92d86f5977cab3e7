"""Streams: a reader can always tell the end from a producer's death."""

import io
import os

import numpy as np
import pytest

from stages.errors import DataMismatch, StageFailure
from stages.shards.pipes import SpooledShard, StreamWriter, open_stream
from stages.shards.provenance import Provenance
from stages.shards.rows import ID, SEMANTIC, extend_schema
from stages.shards.runner import run_row_stage


class Sink(io.BytesIO):
    """Memory that stays readable after Arrow closes it."""

    def close(self):
        pass


def make_stream(count, *, rows_in_trailer=None, finish=True):
    import pyarrow as pa

    sink = Sink()
    writer = StreamWriter(sink, extend_schema(pa.schema([ID]), [SEMANTIC]), Provenance())
    for index in range(count):
        writer.write({"id": str(index), "semantic": np.arange(index, dtype=np.uint16)})
    if rows_in_trailer is not None:
        writer._flush()
        writer.rows = rows_in_trailer
    if finish:
        writer.finish()
    return sink.getvalue()


def read(data):
    return list(open_stream(io.BytesIO(data), where="the pipe").rows())


@pytest.mark.parametrize("count", [0, 1, 200])
def test_a_stream_brings_every_row(count):
    rows = read(make_stream(count))
    assert [row["id"] for row in rows] == [str(index) for index in range(count)]
    assert all(len(row["semantic"]) == int(row["id"]) for row in rows)


def test_rows_arrive_as_they_are_written():
    import pyarrow as pa

    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as there, os.fdopen(writing, "wb") as here:
        writer = StreamWriter(here, pa.schema([ID]), Provenance())
        # Neither the header nor a row waits for more to come, or this would never end.
        rows = open_stream(there, where="the pipe").rows()
        for name in ("a", "b"):
            writer.write({"id": name})
            writer._flush()
            assert next(rows) == {"id": name}


def test_every_cut_is_noticed():
    data = make_stream(150)
    eos = 8
    for cut in range(1, len(data) - eos, 211):
        with pytest.raises(StageFailure, match="its producer failed"):
            read(data[:cut])


def test_a_producer_that_dies_between_batches_is_noticed():
    with pytest.raises(StageFailure, match="without saying that it was complete"):
        read(make_stream(64 * 3, finish=False))


def test_lost_rows_are_noticed():
    with pytest.raises(StageFailure, match="rows were lost"):
        read(make_stream(3, rows_in_trailer=5))


def test_nothing_on_standard_input_is_a_failed_producer():
    with pytest.raises(StageFailure, match="before its first row"):
        read(b"")


def test_other_bytes_are_refused():
    with pytest.raises(DataMismatch, match="neither an Arrow stream nor a Parquet"):
        read(b"RIFF....WAVE")


def test_parquet_on_standard_input_is_spooled(tmp_path, utterances, toy_semantic):
    target = tmp_path / "x.parquet"
    run_row_stage(toy_semantic, utterances("a", "b"), output=str(target))
    with open_stream(io.BytesIO(target.read_bytes()), where="the pipe") as source:
        assert [row["id"] for row in source.rows()] == ["a", "b"]
    with pytest.raises(StageFailure, match="the pipe: the Parquet file"):
        read(target.read_bytes()[:-20])


def test_two_streams_one_after_the_other_are_refused():
    stream = make_stream(3)
    with pytest.raises(StageFailure, match="the pipe goes on after a stream of 3 rows"):
        read(stream + make_stream(2))
    assert len(read(stream)) == 3


@pytest.mark.parametrize("cut", range(9))
def test_a_stream_whose_rows_are_counted_needs_no_more(cut):
    stream = make_stream(3)
    assert len(read(stream[: len(stream) - cut])) == 3


def test_parquet_files_one_after_the_other_are_refused(tmp_path, utterances, toy_semantic):
    target = tmp_path / "x.parquet"
    run_row_stage(toy_semantic, utterances("a", "b"), output=str(target))
    with pytest.raises(DataMismatch, match="several Parquet files one after another"):
        read(2 * target.read_bytes())


def test_damaged_parquet_is_called_what_it_came_as(tmp_path, utterances, toy_semantic):
    target = tmp_path / "x.parquet"
    run_row_stage(toy_semantic, utterances("a", "b"), output=str(target))
    damaged = bytearray(target.read_bytes())
    damaged[8:200] = bytes(192)
    with pytest.raises(StageFailure, match="the pipe: the Parquet file has damaged data"):
        read(bytes(damaged))


def test_an_interrupted_spool_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    class Interrupted(io.BytesIO):
        def read(self, *_):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SpooledShard(Interrupted(), where="the pipe")
    assert not list(tmp_path.iterdir())
