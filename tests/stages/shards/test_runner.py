"""Running a stage: resuming, splitting, failures, and the same bytes whatever happened."""

import pyarrow as pa
import pytest

from stages.errors import DataMismatch, StageFailure
from stages.shards.failures import read_failures
from stages.shards.partition import Shard, parse_shard
from stages.shards.reader import open_rows
from stages.shards.runner import run_row_stage
from stages.shards.writer import atomic_path

IDS = [f"u{number:02d}" for number in range(11)]


def read_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def test_every_stage_keeps_the_columns_it_got(tmp_path, utterances, toy_semantic, toy_acoustic):
    run_row_stage(toy_semantic, utterances(*IDS), output=str(tmp_path / "a"), rows_per_shard=4)
    with open_rows(tmp_path / "a") as source:
        result = run_row_stage(toy_acoustic, source, output=str(tmp_path / "b"))
    assert (result.rows, result.shards_written) == (11, 3)
    assert sorted(read_bytes(tmp_path / "a")) == sorted(read_bytes(tmp_path / "b"))
    rows = list(open_rows(tmp_path / "b").rows())
    assert [row["id"] for row in rows] == IDS
    assert rows[0]["audio"] == "u00.wav"
    assert rows[0]["acoustic"].shape == (2 * len(rows[0]["semantic"]), 3)
    stages = open_rows(tmp_path / "b").provenance.stages
    assert [stage.stage for stage in stages] == ["tokenize-semantic", "tokenize-acoustic"]


def test_a_rerun_redoes_only_what_is_missing_and_gives_the_same_bytes(
    tmp_path, utterances, toy_semantic
):
    output = str(tmp_path)
    run_row_stage(toy_semantic, utterances(*IDS), output=output, rows_per_shard=4)
    whole = read_bytes(tmp_path)
    (tmp_path / "part-00001-of-00003.parquet").unlink()
    (tmp_path / "part-00002-of-00003.parquet").write_bytes(b"PAR1 half a shard")
    toy_semantic.processed.clear()
    result = run_row_stage(toy_semantic, utterances(*IDS), output=output, rows_per_shard=4)
    assert (result.shards_written, result.shards_skipped) == (2, 1)
    assert sorted(toy_semantic.processed) == IDS[4:]
    assert read_bytes(tmp_path) == whole
    result = run_row_stage(
        toy_semantic, utterances(*IDS), output=output, rows_per_shard=4, force=True
    )
    assert result.shards_written == 3


def test_other_settings_or_other_inputs_are_redone(
    tmp_path, utterances, toy_semantic, toy_semantic_of
):
    run_row_stage(toy_semantic, utterances("a", "b"), output=str(tmp_path))
    other = run_row_stage(toy_semantic_of(300), utterances("a", "b"), output=str(tmp_path))
    assert other.shards_written == 1
    changed = run_row_stage(toy_semantic_of(300), utterances("a", "c"), output=str(tmp_path))
    assert changed.shards_written == 1


def test_changed_audio_is_noticed(tmp_path, utterances, toy_semantic, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"one")
    assert run_row_stage(toy_semantic, utterances("a"), output="out").shards_written == 1
    assert run_row_stage(toy_semantic, utterances("a"), output="out").shards_written == 0
    (tmp_path / "a.wav").write_bytes(b"two")
    assert run_row_stage(toy_semantic, utterances("a"), output="out").shards_written == 1


def test_audio_that_no_file_can_be_called_is_as_a_missing_file(tmp_path, utterances, toy_semantic):
    result = run_row_stage(toy_semantic, utterances("a", "nul\0"), output=str(tmp_path))
    assert (result.rows, result.failed) == (2, 0)


@pytest.mark.parametrize("rows_per_shard", [2, 100])
def test_jobs_of_an_array_together_make_what_one_run_makes(
    tmp_path, utterances, toy_semantic, toy_acoustic, rows_per_shard
):
    for index in range(3):
        run_row_stage(
            toy_semantic,
            utterances(*IDS),
            output=str(tmp_path / "a"),
            shard=Shard(index, 3),
            rows_per_shard=rows_per_shard,
        )
        # A job of the next stage needs only its own parts, not the other jobs'.
        with open_rows(tmp_path / "a") as source:
            run_row_stage(toy_acoustic, source, output=str(tmp_path / "b"), shard=Shard(index, 3))
    rows = list(open_rows(tmp_path / "b").rows())
    run_row_stage(toy_semantic, utterances(*IDS), output=str(tmp_path / "c"))
    alone = {row["id"]: row["semantic"].tolist() for row in open_rows(tmp_path / "c").rows()}
    assert {row["id"]: row["semantic"].tolist() for row in rows} == alone
    assert len(rows) == len(IDS)


def test_more_jobs_than_rows_leave_empty_parts(tmp_path, utterances, toy_semantic):
    for index in range(3):
        run_row_stage(
            toy_semantic, utterances("a", "b"), output=str(tmp_path), shard=Shard(index, 3)
        )
    assert open_rows(tmp_path).num_rows == 2
    assert [row["id"] for row in open_rows(tmp_path).rows()] == ["a", "b"]


def test_a_job_without_parts_does_nothing(tmp_path, utterances, toy_semantic, toy_acoustic):
    run_row_stage(toy_semantic, utterances("a"), output=str(tmp_path / "a"))
    with open_rows(tmp_path / "a") as source:
        result = run_row_stage(toy_acoustic, source, output=str(tmp_path / "b"), shard=Shard(1, 2))
    assert (result.rows, result.shards_written) == (0, 0)


def test_a_bad_row_is_reported_and_its_neighbours_go_on(tmp_path, utterances, toy_semantic):
    source = utterances("a", "bad1", "c", "bad2")
    result = run_row_stage(toy_semantic, source, output=str(tmp_path), rows_per_shard=3)
    assert (result.rows, result.failed) == (2, 2)
    lines = read_failures(tmp_path / "failures.jsonl")
    assert {line["id"]: line["reason"] for line in lines} == {
        "bad1": "it is bad",
        "bad2": "it is bad",
    }
    again = run_row_stage(toy_semantic, source, output=str(tmp_path), rows_per_shard=3)
    assert (again.rows, again.failed, again.shards_skipped) == (0, 2, 2)
    assert read_failures(tmp_path / "failures.jsonl") == lines


def test_a_mended_row_leaves_the_failures(tmp_path, utterances, toy_semantic):
    run_row_stage(toy_semantic, utterances("a", "bad"), output=str(tmp_path))
    run_row_stage(toy_semantic, utterances("a", "good"), output=str(tmp_path))
    assert not (tmp_path / "failures.jsonl").exists()


def test_an_id_may_hold_any_character(tmp_path, utterances, toy_semantic):
    odd = "bad\u2028\x85"
    for _ in range(2):
        run_row_stage(toy_semantic, utterances("a", odd), output=str(tmp_path), force=True)
    assert [line["id"] for line in read_failures(tmp_path / "failures.jsonl")] == [odd]


def test_a_shard_is_not_there_before_its_failures(tmp_path, utterances, toy_semantic, monkeypatch):
    def die(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("stages.shards.runner.write_shard", die)
    with pytest.raises(KeyboardInterrupt):
        run_row_stage(toy_semantic, utterances("a", "bad"), output=str(tmp_path))
    assert [line["id"] for line in read_failures(tmp_path / "failures.jsonl")] == ["bad"]


def test_an_output_that_is_no_folder_is_a_sentence(tmp_path, utterances, toy_semantic):
    (tmp_path / "file").touch()
    with pytest.raises(StageFailure, match="cannot be written"):
        run_row_stage(toy_semantic, utterances("bad"), output=str(tmp_path / "file"))


def test_a_shard_carries_its_own_past_whatever_else_is_there(
    tmp_path, utterances, toy_semantic, toy_acoustic
):
    middle, last = tmp_path / "a", "part-00001-of-00002.parquet"
    run_row_stage(toy_semantic, utterances("a", "bad", "c", "d"), output=str(middle),
                  rows_per_shard=2)  # fmt: skip
    with open_rows(middle) as source:
        run_row_stage(toy_acoustic, source, output=str(tmp_path / "b"))
    (middle / "part-00000-of-00002.parquet").unlink()  # another job's, and not made yet
    with open_rows(middle) as source:
        run_row_stage(toy_acoustic, source, output=str(tmp_path / "c"), shard=Shard(1, 2))
    assert (tmp_path / "b" / last).read_bytes() == (tmp_path / "c" / last).read_bytes()
    first, _ = open_rows(tmp_path / "b" / last).provenance.stages
    assert first.failed == 0
    assert first == open_rows(middle / last).provenance.stages[0]


def test_a_set_is_never_written_over(tmp_path, utterances, toy_semantic, toy_acoustic):
    run_row_stage(toy_semantic, utterances("a"), output=str(tmp_path))
    with open_rows(tmp_path) as source, pytest.raises(DataMismatch, match="is an input, too"):
        run_row_stage(toy_acoustic, source, output=str(tmp_path))


def test_sets_of_different_counts_together_make_one_set(
    tmp_path, utterances, toy_semantic, toy_acoustic
):
    run_row_stage(toy_semantic, utterances("a"), output=str(tmp_path / "a"))
    run_row_stage(toy_semantic, utterances("b", "c"), output=str(tmp_path / "b"),
                  rows_per_shard=1)  # fmt: skip
    both = [tmp_path / "a", tmp_path / "b"]
    for index in range(2):
        with open_rows(both) as source:
            run_row_stage(toy_acoustic, source, output=str(tmp_path / "c"), shard=Shard(index, 2))
    assert sorted(read_bytes(tmp_path / "c")) == [
        f"part-{i:05d}-of-00003.parquet" for i in range(3)
    ]
    assert [row["id"] for row in open_rows(tmp_path / "c").rows()] == ["a", "b", "c"]
    # The numbers of all depend on the number of each, so no job can go before the others' parts.
    (tmp_path / "b/part-00001-of-00002.parquet").unlink()
    with (
        open_rows(both) as source,
        pytest.raises(DataMismatch, match=r"part-00001-of-00002.parquet is missing"),
    ):
        run_row_stage(toy_acoustic, source, output=str(tmp_path / "d"), shard=Shard(0, 2))


def test_two_rows_of_one_id_are_refused(tmp_path, utterances, toy_semantic, toy_acoustic):
    for name in ("a", "b"):
        run_row_stage(toy_semantic, utterances(name, "c"), output=str(tmp_path / name))
    with (
        open_rows([tmp_path / "a", tmp_path / "b"]) as source,
        pytest.raises(DataMismatch, match="two rows have the id c"),
    ):
        run_row_stage(toy_acoustic, source, output=str(tmp_path / "out"))


def test_an_id_that_a_stream_brings_twice_fails_the_second_time(tmp_path, utterances, toy_semantic):
    source = utterances("a", "b", "a")
    source.work_units = lambda shard, rows_per_shard: None  # as of a stream
    result = run_row_stage(toy_semantic, source, output=str(tmp_path))
    assert (result.rows, result.failed) == (2, 1)
    assert result.failures[0]["reason"] == "an earlier row has the same id"


def test_columns_of_two_types_are_refused(tmp_path, utterances, toy_semantic):
    for name, kind in (("a", pa.int64()), ("b", pa.string())):
        source = utterances(name)
        source.schema = source.schema.append(pa.field("age", kind))
        run_row_stage(toy_semantic, source, output=str(tmp_path / f"{name}.parquet"))
    with pytest.raises(DataMismatch, match="column `age` is string"):
        open_rows(tmp_path)


def test_one_file_takes_all_parts(tmp_path, utterances, toy_semantic, toy_acoustic):
    run_row_stage(toy_semantic, utterances(*IDS), output=str(tmp_path / "a"), rows_per_shard=4)
    target = tmp_path / "all.parquet"
    with open_rows(tmp_path / "a") as source:
        run_row_stage(toy_acoustic, source, output=str(target))
    assert open_rows(target).num_rows == 11
    with open_rows(tmp_path / "a") as source:
        assert run_row_stage(toy_acoustic, source, output=str(target)).shards_skipped == 1


def test_a_folder_holds_one_set(tmp_path, utterances, toy_semantic):
    run_row_stage(toy_semantic, utterances(*IDS), output=str(tmp_path), rows_per_shard=4)
    with pytest.raises(DataMismatch, match="already holds a set of 3 parts"):
        run_row_stage(toy_semantic, utterances(*IDS), output=str(tmp_path))


def test_an_incomplete_set_is_refused(tmp_path, utterances, toy_semantic):
    run_row_stage(toy_semantic, utterances(*IDS), output=str(tmp_path), rows_per_shard=4)
    (tmp_path / "part-00001-of-00003.parquet").unlink()
    with pytest.raises(DataMismatch, match=r"part-00001-of-00003.parquet is missing"):
        list(open_rows(tmp_path).rows())


def test_shards_that_do_not_fit_together_are_refused(
    tmp_path, utterances, toy_semantic, toy_semantic_of
):
    run_row_stage(toy_semantic, utterances("a"), output=str(tmp_path / "a.parquet"))
    run_row_stage(toy_semantic_of(300), utterances("b"), output=str(tmp_path / "b.parquet"))
    with pytest.raises(DataMismatch, match="do not fit"):
        open_rows(tmp_path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"settings": {"clusters": 256, "seed": 1}}, "with another tokenize-semantic seed"),
        ({"models": {"toy": "1" * 64}}, "with another tokenize-semantic toy"),
    ],
)
def test_parts_of_a_set_that_were_made_in_two_ways_are_refused(
    tmp_path, utterances, toy_semantic, change, what
):
    for index in range(2):
        run_row_stage(
            toy_semantic,
            utterances(*IDS),
            output=str(tmp_path),
            rows_per_shard=6,
            shard=Shard(index, 2),
        )
        vars(toy_semantic).update(change)
    with pytest.raises(DataMismatch, match=f"part-00001.* was made {what} than .*part-00000"):
        open_rows(tmp_path)


def test_parts_of_a_set_that_went_through_other_stages_are_refused(
    tmp_path, utterances, toy_semantic, toy_acoustic
):
    source, target = tmp_path / "source", tmp_path / "target"
    run_row_stage(toy_semantic, utterances(*IDS), output=str(source), rows_per_shard=6)
    for index, name in enumerate(["tokenize-acoustic", "decode"]):
        toy_acoustic.name = name
        part = Shard(index, 2)
        run_row_stage(toy_acoustic, open_rows(source), output=str(target), shard=part)
    with pytest.raises(DataMismatch, match="was made by other stages than"):
        open_rows(target)


def test_a_stage_that_needs_a_column_says_who_makes_it(tmp_path, utterances, toy_acoustic):
    with pytest.raises(DataMismatch, match="run tokenize-semantic"):
        run_row_stage(toy_acoustic, utterances("a"), output=str(tmp_path))


@pytest.mark.parametrize("text", ["3/3", "-1/3", "1", "a/b", "1/0"])
def test_a_shard_outside_its_count_is_refused(text):
    with pytest.raises(DataMismatch, match="--shard"):
        parse_shard(text)


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    tmp_path, utterances, toy_semantic
):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StageFailure, match=r"cannot be written \(it is a file\): name a folder"):
        run_row_stage(toy_semantic, utterances(*IDS), output=str(tmp_path / "file"))
    with pytest.raises(StageFailure, match="cannot be written"):
        run_row_stage(toy_semantic, utterances(*IDS), output=str(tmp_path / "file/x.parquet"))
    (tmp_path / "failures.jsonl").write_text('{"mine": 1}')
    with pytest.raises(DataMismatch, match="move it away"):
        run_row_stage(toy_semantic, utterances(*IDS), output=str(tmp_path))
    assert not toy_semantic.processed
    assert (tmp_path / "file").read_text() == "mine"


def test_a_write_that_fails_leaves_nothing(tmp_path):
    target = tmp_path / "x"
    target.write_text("old")

    def write_half():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert target.read_text() == "old"
