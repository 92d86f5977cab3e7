"""Whose lines a run takes out of a shared `failures.jsonl`."""

import pytest

from stages.errors import DataMismatch
from stages.shards.failures import FailureLog, read_failures

PARTS = ("", "0/2", "1/2", "part-00000-of-00002.parquet")


@pytest.mark.parametrize(
    ("part", "kept"),
    [
        ("", ["part-00000-of-00002.parquet"]),  # the whole is the work of all jobs, not of shards
        ("0/2", ["", "1/2", "part-00000-of-00002.parquet"]),
        ("part-00000-of-00002.parquet", ["", "0/2", "1/2"]),
    ],
)
def test_a_run_removes_what_it_did_again(tmp_path, part, kept):
    path = tmp_path / "failures.jsonl"
    for other in PARTS:
        log = FailureLog(path, part=other)
        log.add("a", "it is bad")
        log.save()
    assert len(read_failures(path)) == len(PARTS)
    FailureLog(path, part=part).save()
    assert [line["part"] for line in read_failures(path)] == kept


@pytest.mark.parametrize("text", ['{"utt": "a"}\n', "a went wrong\n", '["a"]\n'])
def test_a_file_of_another_tool_is_left_alone(tmp_path, text):
    path = tmp_path / "failures.jsonl"
    path.write_text(text)
    with pytest.raises(DataMismatch, match="was not written by this toolkit: move it away"):
        FailureLog(path)
    assert path.read_text() == text
