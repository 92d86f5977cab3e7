"""Tokens to files: names, skipping, foreign files, bad rows, runs that are killed."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from stages.codec.base import Codec, UnusableVocoder
from stages.codec.manifest import MANIFEST_NAME, Manifest, SoundFile, read_manifest
from stages.codec.registry import load_codec
from stages.codec.vocoding import VocodeResult, codec_for, vocode_to_folder, vocode_to_stream
from stages.errors import DataMismatch, StageFailure
from stages.shards.provenance import Provenance, StageRecord
from stages.shards.rows import ID, Row, acoustic_field
from stages.shards.source import RowSource

LEVELS = 3


class Rows(RowSource):
    """Rows in memory; `cut` makes them end as a stream whose producer was killed."""

    where = "the rows"
    num_rows = None

    def __init__(self, codec: Codec, rows: Sequence[Row], *, cut: bool = False) -> None:
        import pyarrow as pa

        self.schema = pa.schema([ID, acoustic_field(LEVELS)])
        self.provenance = Provenance(
            (StageRecord(stage="decode", version="0", settings={}, tokens=codec.spec),)
        )
        self.rows_in_it, self.cut = list(rows), cut

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[list[Row]]:
        for row in self.rows_in_it:
            yield [row]
        if self.cut:
            raise StageFailure("the stream was cut")


@pytest.fixture(scope="module")
def codec(tiny_codec: Path) -> Codec:
    return load_codec(str(tiny_codec))


def row(row_id: str, frames: int = 5, seed: int = 0) -> Row:
    random = np.random.default_rng(seed)
    return {"id": row_id, "acoustic": random.integers(0, 32, (frames, LEVELS)).astype(np.uint16)}


def run(codec: Codec, folder: Path, rows: Sequence[Row], **options: Any) -> VocodeResult:
    return vocode_to_folder(codec, Rows(codec, rows), folder, **options)


def test_one_file_a_row_named_after_its_id(codec: Codec, tmp_path: Path) -> None:
    ids = ["a", "s0/u1", "../../evil", "größe", "x" * 500, "a/../b", "con"]
    result = run(codec, tmp_path / "out", [row(name, seed=n) for n, name in enumerate(ids)])
    assert (result.rows, result.failed) == (len(ids), 0)
    assert result.seconds == pytest.approx(len(ids) * 0.1)
    entries = {entry.id: entry for entry in read_manifest(tmp_path / "out")}
    assert sorted(entries) == sorted(ids)
    for entry in entries.values():
        samples, rate = soundfile.read(tmp_path / "out" / entry.file)
        assert (len(samples), rate) == (entry.samples, entry.sample_rate) == (1600, 16_000)
    assert entries["s0/u1"].file == "s0/u1.wav"
    outside = [path for path in tmp_path.iterdir() if path.name != "out"]
    assert outside == []


def test_flac(codec: Codec, tmp_path: Path) -> None:
    run(codec, tmp_path, [row("a")], sound_format="flac")
    assert soundfile.info(tmp_path / "a.flac").format == "FLAC"


def test_ids_that_differ_in_case_alone_get_files_of_their_own(codec: Codec, tmp_path: Path) -> None:
    run(codec, tmp_path, [row("Ab", seed=1), row("aB", seed=2), row("AB", seed=3)])
    names = [entry.file for entry in read_manifest(tmp_path)]
    assert len({name.casefold() for name in names}) == 3
    again = run(codec, tmp_path, [row("AB", seed=3), row("aB", seed=2), row("Ab", seed=1)])
    assert (again.rows, again.skipped) == (0, 3)


def test_what_is_there_and_matches_is_skipped(codec: Codec, tmp_path: Path) -> None:
    rows = [row("a"), row("b", seed=1)]
    assert run(codec, tmp_path, rows).rows == 2
    before = (tmp_path / "manifest.jsonl").read_bytes()
    assert run(codec, tmp_path, rows).skipped == 2
    assert (tmp_path / "manifest.jsonl").read_bytes() == before
    (tmp_path / "b.wav").unlink()
    changed = run(codec, tmp_path, [row("a", seed=9), rows[1]])
    assert (changed.rows, changed.skipped) == (2, 0)
    assert run(codec, tmp_path, rows[1:], force=True).rows == 1


def test_another_vocoder_makes_the_files_again(
    codec: Codec, tiny_codec: Path, tmp_path: Path
) -> None:
    run(codec, tmp_path, [row("a")])
    other = load_codec(str(tiny_codec), vocoder="griffin-lim")
    assert other.fingerprint == codec.fingerprint
    assert run(other, tmp_path, [row("a")]).rows == 1


def test_a_file_that_is_not_ours_is_left_alone(codec: Codec, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"precious")
    result = run(codec, tmp_path, [row("a"), row("b")])
    assert (result.rows, result.failed) == (1, 1)
    assert "not from vocode" in result.failures[0]["reason"]
    assert (tmp_path / "a.wav").read_bytes() == b"precious"
    assert run(codec, tmp_path, [row("a")], force=True).rows == 1
    assert soundfile.info(tmp_path / "a.wav").frames == 1600


def test_another_format_takes_the_place_of_the_first(codec: Codec, tmp_path: Path) -> None:
    for sound_format in ("wav", "flac", "wav"):
        result = run(codec, tmp_path, [row("a")], sound_format=sound_format)
        assert (result.rows, result.failed) == (1, 0)
        assert [path.name for path in tmp_path.glob("a.*")] == [f"a.{sound_format}"]


def test_jobs_that_share_a_folder_keep_each_others_lines(tmp_path: Path) -> None:
    def entry(name: str) -> SoundFile:
        return SoundFile(id=name, file=f"{name}.wav", samples=1, sample_rate=1, fingerprint="")

    one, other = Manifest(tmp_path), Manifest(tmp_path)
    other.add(entry("b"))
    one.save()  # before the other job's file has its name
    assert [line.id for line in read_manifest(tmp_path)] == ["b"]
    (tmp_path / "b.wav").touch()
    other.save()
    assert [line.id for line in read_manifest(tmp_path)] == ["b"]


def test_a_full_disk_is_a_sentence(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StageFailure, match="No space left on device"):
        run(codec, tmp_path, [row("a")])


def test_bad_rows_fail_alone(codec: Codec, tmp_path: Path) -> None:
    past = row("past")
    past["acoustic"][2, 1] = 32
    rows = [
        {"id": "none", "acoustic": None}, past, row("empty", frames=0), row("twice"),
        row("twice", seed=1), {"id": "", "acoustic": row("x")["acoustic"]}, row("good"),
    ]  # fmt: skip
    result = run(codec, tmp_path, rows)
    assert (result.rows, result.failed) == (2, 5)
    lines = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    reasons = {line["id"]: line["reason"] for line in lines}
    assert "past the codebook of 32" in reasons["past"]
    assert "no acoustic tokens" in reasons["none"]
    assert "no acoustic frames" in reasons["empty"]
    assert "same id" in reasons["twice"]
    assert run(codec, tmp_path, [row("good")]).failed == 0
    assert not (tmp_path / "failures.jsonl").exists()


def test_a_cut_stream_keeps_what_was_made_and_fails(codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(StageFailure, match="cut"):
        vocode_to_folder(codec, Rows(codec, [row("a"), row("b")], cut=True), tmp_path)
    assert run(codec, tmp_path, [row("a"), row("b"), row("c")]).skipped == 2


class Killed(BaseException):
    """Stands for a signal that no code can catch."""


@pytest.mark.parametrize("step", ["written", "noted"])
def test_a_run_killed_at_a_row_leaves_no_half_file_and_the_next_makes_it(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    rows = [row("a"), row("b", seed=1)]
    run(codec, tmp_path / "straight", rows)
    folder = tmp_path / "killed"
    run(codec, folder, [rows[0], row("b", seed=7)])  # an older b, that is to be replaced

    def killed(*arguments: Any, **options: Any) -> None:
        raise Killed

    def killed_after(self: Manifest, entry: SoundFile) -> None:
        add(self, entry)
        raise Killed

    add = Manifest.add
    with monkeypatch.context() as patch:
        # A killed process runs no `finally`.
        patch.setattr(Manifest, "save", lambda self: None)
        patch.setattr(Manifest, "add", killed if step == "written" else killed_after)
        with pytest.raises(Killed):
            run(codec, folder, rows)
    assert run(codec, folder, rows).rows == 1
    for name in ("a.wav", "b.wav", MANIFEST_NAME):
        assert (folder / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_a_line_that_was_cut_does_not_swallow_the_next(codec: Codec, tmp_path: Path) -> None:
    run(codec, tmp_path, [row("a")])
    with (tmp_path / MANIFEST_NAME).open("ab") as file:
        file.write(b'{"id": "b", "fi')
    run(codec, tmp_path, [row("a"), row("b")])
    assert [entry.id for entry in read_manifest(tmp_path)] == ["a", "b"]


def test_the_stream_is_the_files_one_after_another(codec: Codec, tmp_path: Path) -> None:
    rows = [row("a"), row("bad", frames=0), row("b", seed=1)]
    run(codec, tmp_path, rows)
    sink, raw = io.BytesIO(), io.BytesIO()
    result = vocode_to_stream(codec, Rows(codec, rows), sink)
    assert (result.rows, result.failed) == (2, 1)
    sink.seek(0)
    heard, _ = soundfile.read(sink, dtype="int16")
    files = [soundfile.read(tmp_path / f"{name}.wav", dtype="int16")[0] for name in "ab"]
    np.testing.assert_allclose(heard, np.concatenate(files), atol=1)
    vocode_to_stream(codec, Rows(codec, rows), raw, raw=True)
    assert raw.getvalue() == sink.getvalue()[44:]


def test_sound_comes_before_the_input_has_ended(codec: Codec) -> None:
    sink = io.BytesIO()
    sizes = []

    class Slow(Rows):
        def batches(self, columns: Sequence[str] | None = None) -> Iterator[list[Row]]:
            for batch in super().batches(columns):
                sizes.append(len(sink.getvalue()))
                yield batch

    vocode_to_stream(codec, Slow(codec, [row("a"), row("b")]), sink)
    assert sizes == [44, 44 + 3200]


def test_the_codec_is_the_one_that_made_the_tokens(codec: Codec, tiny_codec: Path) -> None:
    source = Rows(codec, [])
    assert codec_for(source, None).name == str(tiny_codec)
    assert codec_for(source, str(tiny_codec)).levels == LEVELS


def test_another_codec_is_refused(
    codec: Codec, tiny_codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    shutil.copytree(tiny_codec, other)
    weights = load_file(other / "model.safetensors")
    weights["quantizer.codebooks"] += 1
    save_file(weights, other / "model.safetensors")
    with pytest.raises(DataMismatch, match="do not fit: their maker is"):
        codec_for(Rows(codec, []), str(other))
    monkeypatch.setattr(codec, "name", str(tmp_path / "gone"))
    with pytest.raises(DataMismatch, match="say where it is with --codec") as refused:
        codec_for(Rows(codec, []), None)
    assert "\n" not in str(refused.value)


def test_a_vocoder_that_is_none_is_not_blamed_on_the_codec(codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(UnusableVocoder, match=r"^the vocoder cannot be used: .*gone is no model"):
        codec_for(Rows(codec, []), None, vocoder=str(tmp_path / "gone"))


def test_no_acoustic_tokens_says_what_makes_them(codec: Codec) -> None:
    source = Rows(codec, [])
    source.provenance = Provenance()
    with pytest.raises(DataMismatch, match="run tokenize-acoustic"):
        codec_for(source, None)


def test_samples_that_are_not_finite_fail_the_row(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = codec.decode

    def broken(tokens: Any) -> Any:
        audio = decode(tokens)
        audio.samples[0, 0, 3] = float("nan")
        return audio

    monkeypatch.setattr(codec, "decode", broken)
    result = run(codec, tmp_path, [row("a")])
    assert "NaN" in result.failures[0]["reason"]


@pytest.mark.parametrize(("peak", "clipped"), [(1.0, 0), (-1.5, 1)])
def test_rows_over_full_scale_are_cut_to_it_and_counted(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peak: float, clipped: int
) -> None:
    decode = codec.decode

    def loud(tokens: Any) -> Any:
        audio = decode(tokens)
        audio.samples[0, 0, 3] = peak
        return audio

    monkeypatch.setattr(codec, "decode", loud)
    assert run(codec, tmp_path, [row("a")]).clipped == clipped
    samples, _ = soundfile.read(tmp_path / "a.wav")
    assert samples[3] == pytest.approx(np.sign(peak), abs=1e-4)
    stream = vocode_to_stream(codec, Rows(codec, [row("a")]), io.BytesIO(), raw=True)
    assert stream.clipped == clipped
