"""Finding utterances: every kind of input, ids, and the sentence for every kind of mistake."""

from __future__ import annotations

import json
import os
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages.audio.manifests import Line, write_manifest
from stages.audio.sources import find_utterances
from stages.errors import DataMismatch


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(800), 16_000)
    return path


def ids(*inputs: object) -> list[str]:
    return [row["id"] for row in find_utterances([str(given) for given in inputs])]


def test_a_folder_gives_relative_paths_sorted_without_suffix(corpus: Path) -> None:
    rows = find_utterances([str(corpus)])
    assert [row["id"] for row in rows] == [f"s{s}/u{u}" for s in range(2) for u in range(3)]
    assert rows[0]["audio"] == str(corpus / "s0/u0.wav")
    assert rows[0]["speaker"] is None


def test_suffixes_are_kept_where_two_files_would_be_one(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "b.wav"):
        touch(tmp_path / name)
    assert ids(tmp_path) == ["a.flac", "a.wav", "b"]


def test_hidden_files_and_other_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("a.wav", "._a.wav", ".cache/b.wav"):
        touch(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no audio")
    assert ids(tmp_path) == ["a"]


def test_a_link_to_a_parent_ends(tmp_path: Path) -> None:
    touch(tmp_path / "deep/a.wav")
    (tmp_path / "deep/again").symlink_to(tmp_path)
    assert ids(tmp_path) == ["deep/a"]


def test_librispeech_gives_stems_speakers_and_texts(tmp_path: Path) -> None:
    folder = tmp_path / "LibriSpeech/test/19/198"
    touch(folder / "19-198-0000.flac")
    touch(folder / "19-198-0001.flac")
    (folder / "19-198.trans.txt").write_text("19-198-0000 NORTHANGER ABBEY\n")
    rows = find_utterances([str(tmp_path)])
    assert [(row["id"], row["speaker"], row["text"]) for row in rows] == [
        ("19-198-0000", "19", "NORTHANGER ABBEY"),
        ("19-198-0001", "19", None),
    ]


def test_globs_and_files_are_named_by_as_much_path_as_needed(corpus: Path) -> None:
    assert ids(corpus / "s0/*.wav") == ["u0"]
    assert ids(corpus / "**/*.wav") == ["s0/u0", "s1/u0"]
    assert ids(corpus / "s0/u0.wav", corpus / "s1/u1.flac") == ["u0", "u1"]


def test_a_file_reached_twice_is_one_utterance(corpus: Path) -> None:
    assert ids(corpus, corpus) == ids(corpus)
    assert ids(corpus, corpus / "s0/u0.wav", corpus / "s1/*", corpus / "s0") == ids(corpus)


def test_a_file_that_a_manifest_names_is_the_utterance_of_its_line(corpus: Path) -> None:
    manifest = corpus / "manifest.tsv"
    assert find_utterances([str(corpus), str(manifest)]) == find_utterances([str(manifest)])


def test_a_file_keeps_what_librispeech_says_of_it_however_else_it_is_reached(
    tmp_path: Path,
) -> None:
    path = touch(tmp_path / "19/198/19-198-0000.flac")
    (path.parent / "19-198.trans.txt").write_text("19-198-0000 NORTHANGER ABBEY\n")
    rows = find_utterances([str(path.parent / "*.flac"), str(tmp_path), str(path)])
    assert [(row["speaker"], row["text"]) for row in rows] == [("19", "NORTHANGER ABBEY")]


def test_lines_that_say_the_same_are_one_utterance_and_two_ids_are_two(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("id\taudio\nx\ta.wav\ny\ta.wav\nx\t./a.wav\n")
    assert ids(tmp_path / "a.tsv") == ["x", "y"]
    (tmp_path / "b.tsv").write_text("audio\ttext\nb.wav\tone\n./b.wav\tone\n")
    assert ids(tmp_path / "b.tsv") == ["b"]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            ['{"id": "x", "audio": "a.wav", "text": "one"}',
             '{"id": "x", "audio": "a.wav", "text": "two"}'],
            "have the id x but differ: .* line 1 and .* line 2",
        ),
        (
            ['{"audio": "a.wav", "text": "one"}', '{"audio": "./a.wav", "text": "two"}'],
            "name .*/a.wav without an id but differ: .* line 1 and .* line 2",
        ),
        (['{"id": "x", "audio": "a.wav", "speaker": "s"}', '{"id": "x", "audio": "a.wav"}'],
         "have the id x"),
        (
            ['{"audio_filepath": "a.wav", "offset": 0.0, "duration": 1.5, "text": "one"}',
             '{"audio_filepath": "a.wav", "offset": 1.5, "duration": 2, "text": "two"}'],
            "line 2 starts at offset 1.5 of its file: only whole files",
        ),
        (['{"audio": "a.wav", "offset": "late"}'], "line 1 starts at offset late"),
        (['{"audio": "a.wav", "start": 1, "end": 2}'], "line 1 starts at start 1 of its file"),
        (['{"audio": "a.wav", "text": ["a", "b"]}'], r'line 1 has \["a", "b"\] as its text'),
        (['{"audio": "a.wav", "speaker": true}'], "line 1 has true as its speaker"),
        (['{"audio": "a.wav", "text": "\\ud83d oops"}'], "line 1 has half a surrogate.* text"),
        (['{"utt_id": "\\ud83d", "audio": "a.wav"}'], "line 1 has half a surrogate.* utt_id"),
        (['{"audio": "caf\\udce9.wav"}'], "line 1 has half a surrogate.* audio"),
        (['{"audio": "a.wav", "size": ' + 5000 * "1" + "}"], "line 1 is not JSON"),
        ([5000 * "["], "line 1 is not JSON"),
    ],
)  # fmt: skip
def test_lines_that_cannot_be_taken_are_one_sentence(
    tmp_path: Path, lines: list[str], sentence: str
) -> None:
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataMismatch, match=sentence) as caught:
        find_utterances([str(tmp_path / "m.jsonl")])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("offset", ["0", "0.0", "null", '""', '"0.00"'])
def test_a_duration_says_nothing_and_no_offset_says_a_whole_file(
    tmp_path: Path, offset: str
) -> None:
    line = f'{{"audio_filepath": "a.wav", "offset": {offset}, "duration": 1.5}}'
    (tmp_path / "m.jsonl").write_text(line)
    assert ids(tmp_path / "m.jsonl") == ["a"]


def test_what_is_not_there_is_not_called_nan(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav", "text": NaN, "start": "2026-01-01"}')
    [row] = find_utterances([str(tmp_path / "m.jsonl")])
    assert row["text"] is None


def test_paths_that_cannot_exist_are_left_to_the_reader(tmp_path: Path) -> None:
    audio = ["~nobodyhere/a.wav", "nul\0.wav", "."]
    (tmp_path / "m.jsonl").write_text("\n".join(json.dumps({"audio": name}) for name in audio))
    rows = find_utterances([str(tmp_path / "m.jsonl")])
    assert [row["id"] for row in rows] == [".", "nul\0", "~nobodyhere/a"]
    assert rows[2]["audio"] == str(tmp_path / "~nobodyhere/a.wav")


def test_two_folders_with_the_same_names_are_refused(tmp_path: Path) -> None:
    one, two = touch(tmp_path / "one/a.wav").parent, touch(tmp_path / "two/a.wav").parent
    # Each names its file "a", with or without suffix.
    with pytest.raises(DataMismatch, match=r"two utterances have the id a\.wav: .*one.*two"):
        ids(one, two)


def test_a_tsv_manifest_is_relative_to_itself(corpus: Path) -> None:
    rows = find_utterances([str(corpus / "manifest.tsv")])
    assert rows[4] == {
        "id": "s1/u1",
        "audio": str(corpus / "s1/u1.flac"),
        "speaker": "s1",
        "text": "made up 1",
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", 'Utt_ID,Path,Speaker_ID,Sentence\nx,a.wav,s,"Hello, you"\n'),
        ("m.tsv", "key\twav\tspk\ttranscript\nx\ta.wav\ts\tHello, you\n"),
        ("m.jsonl", json.dumps(
            {"utt_id": "x", "audio_filepath": "a.wav", "speaker": "s", "text": "Hello, you"})),
        ("h.jsonl", json.dumps(
            {"id": "x", "audio": {"path": "a.wav"}, "spk_id": "s", "transcription": "Hello, you"})),
        ("b.csv", '\ufeffid,audio,client_id,text\n\nx,a.wav,s,"Hello, you"\n'),
    ],
)  # fmt: skip
def test_manifests_by_any_common_name(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert find_utterances([str(tmp_path / name)]) == [
        {"id": "x", "audio": str(tmp_path / "a.wav"), "speaker": "s", "text": "Hello, you"}
    ]


def test_a_manifest_without_ids_names_by_path(tmp_path: Path) -> None:
    (tmp_path / "m.tsv").write_text('path\ttext\nd/a.wav\tsay "no\nd/b.wav\t\n')
    rows = find_utterances([str(tmp_path / "m.tsv")])
    assert [(row["id"], row["text"]) for row in rows] == [("d/a", 'say "no'), ("d/b", None)]


def test_an_absolute_path_and_a_uri_stay(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,audio\nx,/far/a.wav\ny,s3://bucket/b.wav\nz,\n")
    rows = find_utterances([str(tmp_path / "m.csv")])
    assert [row["audio"] for row in rows] == ["/far/a.wav", "s3://bucket/b.wav", None]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("m.tsv", "id\tlength\nx\t3\n", "has no column of audio files among id, length"),
        ("m.tsv", "id\taudio\n", "lists no utterances"),
        ("m.tsv", "", "lists no utterances"),
        ("m.tsv", "id\taudio\nx\ta.wav\nx\tb.wav\n", "have the id x.*line 2.*line 3"),
        ("m.tsv", "id\taudio\n\ta.wav\n", "line 2 has no id"),
        ("m.tsv", "id\taudio\nx\ta.wav\textra\n", "line 2 has 3 cells under a header of 2"),
        ("m.jsonl", '{"id": "x", "audio": "a.wav"}\n{"id"\n', "line 2 is not JSON"),
        ("m.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("m.csv", "audio\n\xff\n", "is not UTF-8"),
        ("m.csv", 'audio,text\na.wav,"x\ny"\nb.wav,"He said\nc.wav,x\n', "line 4 cannot be read"),
        ("m.csv", "audio,Text,text\na.wav,x,y\n", "has two columns called text: keep one"),
        ("speech.doc", "", "neither audio nor a manifest by its suffix"),
    ],
)  # fmt: skip
def test_malformed_inputs_are_one_sentence(
    tmp_path: Path, name: str, content: str, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(DataMismatch, match=sentence) as caught:
        find_utterances([str(tmp_path / name)])
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_of_other_bytes_than_utf8_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.wav")).touch()
    with pytest.raises(DataMismatch, match=r"caf.*is not UTF-8: rename it"):
        find_utterances([str(tmp_path)])


def test_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(DataMismatch, match="hold no audio"):
        ids(tmp_path)
    with pytest.raises(DataMismatch, match="does not exist"):
        ids(tmp_path / "missing.wav")
    with pytest.raises(DataMismatch, match="matches no file"):
        ids(tmp_path / "*.wav")


def test_the_real_manifest_just_works(shared: Path) -> None:
    rows = find_utterances([str(shared / "data/train.tsv")])
    assert len(rows) > 1000
    assert all(Path(row["audio"]).is_file() for row in rows[::100])


def write_lines(manifest: Path, *lines: Line) -> None:
    assert write_manifest(manifest, [{"line": line} for line in lines], itemgetter("line")) == []


def test_a_manifest_that_is_written_is_read_the_same(tmp_path: Path) -> None:
    manifest = tmp_path / "new" / "all.tsv"
    write_lines(
        manifest,
        ("a", "a.wav", "ann", '"Yes," she\tsaid,\n"and 7"'),
        ("b/c", "b/c.wav", None, None),
        ("d", None, None, "no sound"),
    )
    first, second, third = find_utterances([str(manifest)])
    assert first["text"] == '"Yes," she said, "and 7"'
    assert (first["id"], first["speaker"]) == ("a", "ann")
    assert first["audio"] == str(tmp_path / "new" / "a.wav")
    assert (second["id"], second["speaker"], second["text"]) == ("b/c", None, None)
    assert (third["audio"], third["text"]) == (None, "no sound")


def test_a_manifest_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    manifest = tmp_path / "all.tsv"
    write_lines(manifest, ("a", "a.wav", None, None))
    before = manifest.read_text()
    with pytest.raises(DataMismatch, match=r"'b\\tc' cannot be a line of .*all\.tsv"):
        write_lines(manifest, ("a", "a.wav", None, "no"), ("b\tc", "b.wav", None, None))
    assert manifest.read_text() == before
    assert list(tmp_path.iterdir()) == [manifest]
