"""`soundstorm tokenize-semantic` as a user runs it, with what goes wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from soundstorm_cli.main import run
from soundstorm_cli.tokenize_semantic import SearchEffort
from stages.assets import model_folder
from stages.semantic.kmeans import load_kmeans
from stages.semantic.unit_search.searching import EFFORTS
from stages.shards.reader import open_rows
from tests.tiny_whisper import tiny_whisper


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        run([*map(str, arguments), "--workers", "0"])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def kmeans(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kmeans") / "km"
    assert command("fit-kmeans", corpus, "-o", folder, "--clusters", 16, "-q") == 0
    return folder


def test_a_manifest_becomes_shards(corpus: Path, kmeans: Path, tmp_path: Path) -> None:
    manifest = corpus / "manifest.tsv"
    assert command("tokenize-semantic", manifest, "-o", tmp_path / "sem", "-k", kmeans) == 0
    with open_rows(tmp_path / "sem") as source:
        rows = list(source.rows())
        spec = source.provenance.require_tokens("semantic", where="here")
    assert [row["id"] for row in rows] == [f"s{s}/u{u}" for s in range(2) for u in range(3)]
    assert rows[0]["speaker"] == "s0"
    assert rows[0]["text"] == "made up 0"
    assert rows[1]["sample_rate"] == 24_000
    assert all(row["semantic"].max() < spec.codebook_size for row in rows)
    assert (spec.frame_rate, spec.codebook_size) == (50, 16)


def test_shards_are_an_input_too_and_give_the_same(
    corpus: Path, kmeans: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert command("tokenize-semantic", corpus, "-o", first, "-k", kmeans) == 0
    assert command("tokenize-semantic", first, "-o", second, "-k", kmeans) == 0
    with open_rows(first) as one, open_rows(second) as other:
        for before, after in zip(one.rows(), other.rows(), strict=True):
            np.testing.assert_array_equal(before["semantic"], after["semantic"])


def test_a_rerun_skips_and_a_new_kmeans_redoes(
    corpus: Path, kmeans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert command("fit-kmeans", corpus, "-o", other, "--clusters", 4, "-q") == 0
    written = []
    for folder in (kmeans, kmeans, other):
        capsys.readouterr()
        arguments = [corpus, "-o", tmp_path / "sem", "-k", folder, "--json"]
        assert command("tokenize-semantic", *arguments) == 0
        written.append(json.loads(capsys.readouterr().out)["shards_written"])
    assert written == [1, 0, 1]


def test_the_kmeans_names_the_encoder_and_rate(corpus: Path, tmp_path: Path) -> None:
    km, sem = tmp_path / "km25", tmp_path / "sem"
    assert command("fit-kmeans", corpus, "-o", km, "-c", 4, "--rate", 25, "-q") == 0
    assert command("tokenize-semantic", corpus, "-o", sem, "-k", km) == 0
    with open_rows(sem) as source:
        assert source.provenance.require_tokens("semantic", where="here").frame_rate == 25


def test_a_kmeans_whose_encoder_is_elsewhere_says_so(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(model_folder("mini", "bottleneck"), tmp_path / "here/encoder")
    monkeypatch.chdir(tmp_path / "here")
    assert command("fit-kmeans", corpus, "-o", "km", "--encoder", "encoder", "--clusters", 4) == 0
    monkeypatch.chdir(tmp_path)
    arguments = ["tokenize-semantic", corpus, "-o", "sem", "-k", "here/km"]
    capsys.readouterr()
    assert command(*arguments) == 2
    said = capsys.readouterr().err
    assert "the k-means here/km is of the encoder encoder, which is not to be found" in said
    assert command(*arguments, "--encoder", "here/encoder") == 0


def test_the_kmeans_of_another_encoder_is_refused(
    corpus: Path, kmeans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [corpus, "-o", tmp_path / "sem", "-k", kmeans, "--rate", 25]
    assert command("tokenize-semantic", *arguments) == 2
    err = capsys.readouterr().err
    assert "was fitted on logmel, not on logmel@25mean" in err
    assert not (tmp_path / "sem").exists()


def malformed(folder: Path, good: Path) -> list[str]:
    """One bad file of each kind that a corpus can hold; returns their ids."""
    speech, rate = soundfile.read(good)
    nan = speech.copy()
    nan[7] = np.nan
    soundfile.write(folder / "nan.wav", nan, rate, subtype="FLOAT")
    soundfile.write(folder / "one.wav", speech[:1], rate)
    soundfile.write(folder / "header.flac", speech[:0], rate)
    (folder / "zero.wav").touch()
    (folder / "text.mp3").write_text("these are words, not sound")
    cut = good.read_bytes()
    (folder / "cut.wav").write_bytes(cut[: len(cut) // 2])
    (folder / "dangling.wav").symlink_to(folder / "gone.wav")
    return ["cut", "dangling", "header", "nan", "one", "text", "zero"]


def test_bad_files_fail_alone(
    kmeans: Path, tmp_path: Path, speech_wav: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    bad = malformed(folder, speech_wav)
    speech, rate = soundfile.read(speech_wav)
    soundfile.write(folder / "good.wav", speech, rate)
    soundfile.write(folder / "eight.wav", np.tile(speech[:, None], (1, 8)), rate)
    arguments = [folder, "-o", tmp_path / "sem", "-k", kmeans]
    assert command("tokenize-semantic", *arguments) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert f"{len(bad)} rows failed" in err
    assert "--force" not in err
    assert command("tokenize-semantic", *arguments) == 1
    assert "; --force tries those of shards already done again" in capsys.readouterr().err
    lines = (tmp_path / "sem/failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == bad
    with open_rows(tmp_path / "sem") as source:
        rows = {row["id"]: row for row in source.rows()}
    assert sorted(rows) == ["eight", "good"]
    np.testing.assert_array_equal(rows["eight"]["semantic"], rows["good"]["semantic"])
    assert command("tokenize-semantic", *arguments, "--keep-going") == 0


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("missing.wav", "does not exist"),
        ("empty", "hold no audio"),
        ("notes.txt", "neither audio nor a manifest"),
        ("m.tsv", "has no column of audio files"),
        ("fake.parquet", "is no whole Parquet file"),
    ],
)
def test_unusable_inputs_exit_2(
    kmeans: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    given: str,
    sentence: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "m.tsv").write_text("id\tlength\nx\t1\n")
    (tmp_path / "fake.parquet").write_text("not parquet")
    arguments = [tmp_path / given, "-o", tmp_path / "sem", "-k", kmeans]
    assert command("tokenize-semantic", *arguments) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("output", ["", "tokens.parquet"])
def test_tokens_do_not_go_among_the_audio(
    corpus: Path, kmeans: Path, capsys: pytest.CaptureFixture[str], output: str
) -> None:
    before = sorted(corpus.iterdir())
    assert command("tokenize-semantic", corpus, "-o", corpus / output, "-k", kmeans) == 2
    assert f"{corpus} is an input, too: choose another -o\n" in capsys.readouterr().err
    assert sorted(corpus.iterdir()) == before


def test_the_default_kmeans_and_no_such_kmeans(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SOUNDSTORM_KMEANS", raising=False)
    assert command("tokenize-semantic", corpus, "-o", tmp_path / "mini") == 0
    capsys.readouterr()
    with open_rows(tmp_path / "mini") as source:
        spec = source.provenance.require_tokens("semantic", where="mini")
    assert (spec.codebook_size, spec.frame_rate) == (65_536, 25)
    assert command("tokenize-semantic", corpus, "-o", tmp_path / "sem", "-k", corpus) == 2
    assert "is no model" in capsys.readouterr().err


VOICE = Path(__file__).resolve().parents[2] / "examples/speech/ada/ada-00.opus"


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of random weights, which hears the bands that `mini` speaks."""
    return tiny_whisper(tmp_path_factory.mktemp("whisper"), mels=80)


def test_searched_units_are_of_the_same_kmeans_and_others(whisper: Path, tmp_path: Path) -> None:
    found = []
    for name, options in (("nearest", []), ("searched", ["--search", f"whisper:{whisper}"])):
        assert command("tokenize-semantic", VOICE, "-o", tmp_path / name, *options, "-q") == 0
        with open_rows(tmp_path / name) as source:
            (row,) = source.rows()
            found.append((source.provenance.tokens("semantic"), row["semantic"]))
            models = source.provenance.stages[-1].models
        assert ("search" in models) == (name == "searched")
    (spec, nearest), (other, searched) = found
    assert spec == other
    assert len(nearest) == len(searched)
    # Nearly all are others, of so many, and still near by.
    assert (np.array(nearest) != np.array(searched)).any()
    centroids = load_kmeans(model_folder("mini", "kmeans")).centroids
    plain, found_there = centroids[nearest], centroids[searched]
    moved = np.linalg.norm(found_there - plain, axis=1).mean()
    assert moved < 0.5 * np.linalg.norm(np.roll(found_there, 7, axis=0) - plain, axis=1).mean()


def test_a_full_search_is_another_and_quick_is_the_default(whisper: Path, tmp_path: Path) -> None:
    searches = []
    for options in ([], ["--search-effort", "quick"], ["--search-effort", "full"]):
        output = tmp_path / str(len(searches))
        ear = ["--search", f"whisper:{whisper}", "-q"]
        assert command("tokenize-semantic", VOICE, "-o", output, *ear, *options) == 0
        with open_rows(output) as source:
            (row,) = source.rows()
            searches.append((source.provenance.stages[-1].models["search"], list(row["semantic"])))
    assert searches[0] == searches[1]
    assert all(here != there for here, there in zip(searches[1], searches[2], strict=True))
    assert {effort.value for effort in SearchEffort} == EFFORTS.keys()


def test_a_search_that_cannot_be_is_refused(
    corpus: Path, kmeans: Path, whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, reason in (
        (["-k", kmeans, "--search", f"whisper:{whisper}"], "speaks the units of another encoder"),
        (["-k", kmeans, "--unit-to-mel", "mini"], "in a search: add --refiner FOLDER or --search"),
        (["-k", kmeans, "--refiner", "mini"], "refines the frames of another encoder"),
        (["--refiner", tmp_path], "is no model"),
        (["--search-effort", "quick"], "--search-effort is of a search: add --search whisper:"),
        (["--search", "mini"], "--search mini is no Whisper to listen with: give whisper:FOLDER"),
        (["--search", f"whisper:{tmp_path}"], "model.bin"),
        (["--search", f"whisper:{whisper}", "--unit-to-mel", tmp_path], "is no model"),
    ):
        assert command("tokenize-semantic", corpus, "-o", tmp_path / "sem", *options) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert reason in line
        assert not (tmp_path / "sem").exists()


def test_frames_of_the_mini_kmeans_are_refined(tmp_path: Path) -> None:
    found = {}
    for name, options in (
        ("plain", ["--refiner", "none"]),
        ("default", []),
        ("named", ["--refiner", "mini", "--unit-to-mel", "mini"]),
    ):
        assert command("tokenize-semantic", VOICE, "-o", tmp_path / name, *options, "-q") == 0
        with open_rows(tmp_path / name) as source:
            (row,) = source.rows()
            spec = source.provenance.tokens("semantic")
            models = source.provenance.stages[-1].models
        found[name] = (spec, row["semantic"].tolist(), models.get("refiner"))
    assert found["default"] == found["named"]
    assert found["plain"][2] is None
    assert len(found["default"][2]) == 64
    assert found["plain"][0] == found["default"][0]
    centroids = load_kmeans(model_folder("mini", "kmeans")).centroids
    plain, moved = (centroids[found[name][1]] for name in ("plain", "default"))
    apart = np.linalg.norm(moved - plain, axis=1).mean()
    assert 0.1 < apart / np.linalg.norm(plain[::-1] - plain, axis=1).mean() < 0.5
