"""`soundstorm eval` from the command line: tables, files, reruns, refusals."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from soundstorm_cli.main import run
from stages.audio.reading import read_audio
from stages.evaluation import reconstruction, registry
from stages.evaluation import systems as systems_module
from stages.evaluation.judges.base import Judge
from stages.shards.provenance import Provenance, StageRecord
from stages.shards.rows import AUDIO, ID, SEMANTIC, SPEAKER, TEXT, acoustic_field
from stages.shards.spec import TokenSpec
from stages.shards.writer import write_shard
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.model import to_model_file
from stages.soundstorm.network import SoundStorm

Eval = Callable[..., int]

SEMANTICS = TokenSpec(
    kind="semantic", name="toy", fingerprint="a" * 64, frame_rate=Fraction(25), codebook_size=5
)
ACOUSTICS = TokenSpec(
    kind="acoustic", name="toy", fingerprint="b" * 64, frame_rate=Fraction(50), codebook_size=8,
    levels=2,
)  # fmt: skip


@pytest.fixture
def evaluate() -> Eval:
    """`evaluate(*arguments)` gives the exit code of `soundstorm eval`."""

    def call(*arguments: str | Path) -> int:
        with pytest.raises(SystemExit) as end:
            run(["eval", *map(str, arguments)])
        return int(end.value.code or 0)

    return call


@pytest.fixture
def manifest(corpus: Path) -> Path:
    return corpus / "manifest.tsv"


@pytest.fixture
def quieter(corpus: Path, tmp_path: Path) -> Path:
    """The corpus at half its loudness, as another tool might have made it."""
    folder = tmp_path / "quieter"
    for path in sorted(corpus.rglob("*/u*")):
        target = folder / path.relative_to(corpus).with_suffix(".wav")
        target.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(target, 0.5 * read_audio(str(path), sample_rate=16_000).samples[0], 16_000)
    return folder


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """Three rows of two levels without audio."""
    random = np.random.default_rng(0)
    rows = [
        {
            "id": f"u{index}",
            "semantic": random.integers(0, 5, 20).astype(np.uint16),
            "acoustic": random.integers(0, 8, (40, 2)).astype(np.uint16),
        }
        for index in range(3)
    ]
    records = [
        StageRecord(stage=f"tokenize-{spec.kind}", version="0", settings={}, tokens=spec)
        for spec in (SEMANTICS, ACOUSTICS)
    ]
    path = tmp_path / "tokens.parquet"
    schema = pa.schema([ID, AUDIO, SPEAKER, TEXT, SEMANTIC, acoustic_field(2)])
    write_shard(path, [rows], schema, Provenance(tuple(records)))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An untrained SoundStorm for `tokens`."""
    torch.manual_seed(0)
    config = SoundStormConfig(
        levels=2, codebook_size=8, semantic_codebook_size=5, layers=1, heads=2, width=16,
        feed_forward=32, dropout=0.0,
    )  # fmt: skip
    folder = tmp_path / "model"
    weights = SoundStorm(config).state_dict()
    to_model_file(folder, config=config, weights=weights, semantic=SEMANTICS, acoustic=ACOUSTICS)
    return folder


def test_systems_side_by_side(
    evaluate: Eval,
    manifest: Path,
    quieter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = (
        manifest, "--system", f"quieter={quieter}", "--measures", "reconstruction",
        "-o", tmp_path / "eval",
    )  # fmt: skip
    assert evaluate(*arguments) == 0
    table = capsys.readouterr().out
    assert "| recordings | – | – |" in table
    assert "| quieter |" in table
    assert (tmp_path / "eval" / "table.md").read_text() == table
    scores = json.loads((tmp_path / "eval" / "scores.json").read_text())
    found = scores["systems"]["quieter"]
    assert found["si_sdr"]["value"] > 60  # a gain is no distortion; 16 bits are
    assert found["log_mel_distance"]["value"] == pytest.approx(np.log(2), abs=0.1)
    assert found["si_sdr"]["low"] <= found["si_sdr"]["value"] <= found["si_sdr"]["high"]
    rows = pq.read_table(tmp_path / "eval" / "scores.parquet").to_pylist()
    assert len(rows) == 12
    assert {row["speaker"] for row in rows} == {"s0", "s1"}

    before = {path.name: path.read_bytes() for path in (tmp_path / "eval").iterdir()}
    assert evaluate(*arguments) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "eval").iterdir()} == before


class Parrot(Judge):
    """Says the same whatever it hears, and counts."""

    name, language = "parrot", "en"

    def __init__(self) -> None:
        self.settings = {"parrot": 1}
        self.heard = 0

    def __call__(self, samples: object) -> str:
        self.heard += 1
        return "made up one"


def test_lengths_are_told_apart_and_a_rerun_hears_nothing(
    evaluate: Eval,
    make_speech: Callable[..., NDArray[np.float32]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for package in ("distillmos", "jiwer", "whisper_normalizer"):
        pytest.importorskip(package, reason="needs the eval extra")
    lines = ["audio\ttext"]
    for name, seconds in (("brief", 1.0), ("short", 4.5)):
        soundfile.write(tmp_path / f"{name}.wav", make_speech(seconds), 16_000)
        lines.append(f"{name}.wav\tmade up two")
    (tmp_path / "set.tsv").write_text("\n".join(lines) + "\n")
    parrot = Parrot()
    monkeypatch.setattr(registry, "load_judges", lambda options, device: [parrot])
    arguments = (
        tmp_path / "set.tsv", "--judge", "parrot", "--measures", "wer,distillmos",
        "-o", tmp_path / "eval",
    )  # fmt: skip
    assert evaluate(*arguments) == 0
    table = capsys.readouterr().out
    assert "| recordings | 33.3 [33.3, 33.3] |" in table
    assert "| short · recordings | 33.3 |" in table
    scores = json.loads((tmp_path / "eval" / "scores.json").read_text())
    assert scores["lengths"]["short"]["utterances"] == 1
    assert scores["lengths"]["long"] == {"utterances": 0, "systems": {"recordings": {}}}
    assert scores["metrics"]["wer"]["reference"] == "text"
    rows = pq.read_table(tmp_path / "eval" / "scores.parquet").to_pylist()
    assert [(row["seconds"], row["length"]) for row in rows] == [(1.0, None), (4.5, "short")]

    def deaf(*arguments: object, **options: object) -> None:
        raise AssertionError("sound was read again")

    before = {path.name: path.read_bytes() for path in (tmp_path / "eval").iterdir()}
    monkeypatch.setattr(systems_module, "read_audio", deaf)
    assert evaluate(*arguments) == 0
    assert parrot.heard == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "eval").iterdir()} == before


def test_without_texts_transcripts_of_recordings_serve_and_it_is_said(
    evaluate: Eval,
    corpus: Path,
    quieter: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for package in ("jiwer", "whisper_normalizer"):
        pytest.importorskip(package, reason="needs the eval extra")
    monkeypatch.setattr(registry, "load_judges", lambda options, device: [Parrot()])
    arguments = (
        corpus, "--system", f"q={quieter}", "--judge", "parrot", "--measures", "wer", "--json",
    )  # fmt: skip
    assert evaluate(*arguments) == 0
    streams = capsys.readouterr()
    found = json.loads(streams.out)
    assert found["metrics"]["wer"]["reference"] == "transcript"
    assert found["settings"]["measures"]["wer"]["reference"] == "transcript"
    assert found["systems"]["q"]["wer"]["value"] == 0.0
    assert "wer" not in found["systems"]["recordings"]
    assert "WER % (to transcripts)" in streams.err
    assert "held against transcripts of the recordings, not texts" in streams.err

    assert evaluate(*arguments, "--reference", "text") == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == {"wer": "no utterance has a text"}


def test_workers_change_no_byte(
    evaluate: Eval, manifest: Path, quieter: Path, tmp_path: Path
) -> None:
    contents = []
    for workers in (0, 2):
        folder = tmp_path / f"by-{workers}"
        assert evaluate(
            manifest, "--system", f"quieter={quieter}", "--measures", "reconstruction",
            "--workers", workers, "-o", folder,
        ) == 0  # fmt: skip
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]


def test_json_is_alone_on_standard_output(
    evaluate: Eval, manifest: Path, quieter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(
        manifest, "--system", f"quieter={quieter}", "--measures", "reconstruction", "--json"
    ) == 0  # fmt: skip
    streams = capsys.readouterr()
    assert json.loads(streams.out)["utterances"] == 6
    assert "| quieter |" in streams.err


def test_missing_rows_are_told_and_left_out(
    evaluate: Eval, manifest: Path, quieter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (quieter / "s0" / "u1.wav").unlink()
    arguments = (manifest, "--system", f"q={quieter}", "--measures", "reconstruction", "--json")
    assert evaluate(*arguments) == 0
    streams = capsys.readouterr()
    assert json.loads(streams.out)["missing"] == {"q": ["s0/u1"]}
    assert "q lacks 1 utterances (s0/u1, ...)" in streams.err


def test_two_files_of_one_utterance_are_named_and_refused(
    evaluate: Eval, manifest: Path, quieter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (twice,) = (path for path in quieter.rglob("u1.wav") if path.parent.name == "s0")
    samples, rate = soundfile.read(twice)
    soundfile.write(twice.with_suffix(".flac"), samples, rate)
    assert evaluate(manifest, "--system", f"q={quieter}", "--measures", "reconstruction") == 2
    assert capsys.readouterr().err == (
        "soundstorm: q has two files for the utterance s0/u1, "
        f"{twice.with_suffix('.flac')} and {twice}: remove one, or give a manifest with ids\n"
    )


def test_a_bad_row_is_a_failure_and_its_neighbours_go_on(
    evaluate: Eval,
    manifest: Path,
    quieter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (quieter / "s1" / "u2.wav").write_bytes(b"no sound")
    arguments = (
        manifest, "--system", f"q={quieter}", "--measures", "reconstruction",
        "-o", tmp_path / "eval",
    )  # fmt: skip
    assert evaluate(*arguments) == 1
    assert "s1/u2: q: reconstruction:" in capsys.readouterr().err
    lines = (tmp_path / "eval" / "failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["s1/u2"]
    scores = json.loads((tmp_path / "eval" / "scores.json").read_text())
    assert scores["systems"]["q"]["si_sdr"]["utterances"] == 5
    assert evaluate(*arguments, "--keep-going") == 0


def test_a_model_alone_is_asked_about_masked_tokens(
    evaluate: Eval, tokens: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(tokens, "--model", model, "-o", tmp_path / "eval", "--draws", "4") == 0
    table = capsys.readouterr().out
    assert "| level 1 |" in table
    assert "| level 2 |" in table
    assert "| ratio 0.75-1.00 |" in table
    scores = json.loads((tmp_path / "eval" / "scores.json").read_text())
    assert "systems" not in scores
    assert 1.5 < scores["masked_tokens"]["loss"]["all"]["value"] < 3.0
    rows = pq.read_table(tmp_path / "eval" / "masked-tokens.parquet").to_pylist()
    assert len(rows) == 3 * 2 * 4


def test_a_limit_is_of_masked_tokens_too(
    evaluate: Eval, tokens: Path, model: Path, tmp_path: Path
) -> None:
    assert evaluate(tokens, "--model", model, "-o", tmp_path / "eval", "--limit", "2") == 0
    rows = pq.read_table(tmp_path / "eval" / "masked-tokens.parquet").to_pylist()
    assert [row["id"] for row in rows] == ["u0", "u0", "u1", "u1"]
    assert json.loads((tmp_path / "eval" / "scores.json").read_text())["settings"]["limit"] == 2


def test_a_limited_model_is_asked_about_what_is_heard(
    evaluate: Eval, pipeline: SimpleNamespace, quieter: Path, tmp_path: Path
) -> None:
    (quieter / "s0" / "u1.wav").unlink()  # so that a limit spreads over five of six
    assert evaluate(
        pipeline.full, "--model", pipeline.model, "--system", f"quieter={quieter}",
        "--measures", "reconstruction", "--limit", "3", "--workers", "0", "-o", tmp_path / "eval",
    ) == 0  # fmt: skip
    heard, asked = (
        [row["id"] for row in pq.read_table(tmp_path / "eval" / name).to_pylist()]
        for name in ("scores.parquet", "masked-tokens.parquet")
    )
    assert list(dict.fromkeys(asked)) == list(dict.fromkeys(heard)) == ["s0/u0", "s0/u2", "s1/u1"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{manifest}", "--system", "mine"], "is not NAME=PATH"),
        (["{manifest}", "--system", "codec=x"], "the name codec is taken"),
        (["{manifest}", "--system", "a=x", "--system", "a=y"], "the name a is taken"),
        (["{manifest}", "--system", "a={manifest}/nowhere"], "does not exist"),
        (["{manifest}", "--measures", "mos"], "there is no measure mos"),
        (["{manifest}", "--measures", "wer"], "--judge"),
        (["{manifest}", "--judge", "ear"], "there is no judge ear: write whisper:NAME"),
        (["{manifest}", "--reference", "transcript"], "needs someone who transcribes"),
        (["{manifest}", "--speaker-encoder", "ear"], "there is no speaker encoder ear"),
        (["{manifest}", "--whisper", "./nowhere"], "is no Whisper model"),
        (["{manifest}", "--codec", "mp3"], "mp3 is no codec"),
        (["-", "--system", "a=-"], "standard input can be read once"),
        (["{tokens}"], "made with the codec toy"),
        (["{tokens}", "--model", "{manifest}"], "is no model"),
        (["{manifest}", "--model", "{model}"], "has no column `semantic`"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    evaluate: Eval,
    manifest: Path,
    tokens: Path,
    model: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    places = {"manifest": manifest, "tokens": tokens, "model": model}
    assert evaluate(*(argument.format(**places) for argument in arguments)) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    (line,) = streams.err.splitlines()
    assert line.startswith("soundstorm: ")
    assert sentence in line


def test_help_tells_of_every_measure(evaluate: Eval, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--help") == 0
    text = capsys.readouterr().out
    words = ("wer", "dnsmos", "distillmos", "voice", "reconstruction", "--system", "--model")
    for word in (*words, "--judge", "--whisper", "--reference", "--speaker-encoder", "--workers"):
        assert word in text


def ctrl_c() -> None:
    raise KeyboardInterrupt  # not the signal, which a shell's background jobs ignore


def sigterm() -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("interrupt", "code", "end"),
    [(ctrl_c, 130, ""), (sigterm, 143, "soundstorm: terminated\n")],
)
def test_an_interruption_is_one_sentence_and_keeps_what_was_scored(
    interrupt: Callable[[], None],
    code: int,
    end: str,
    evaluate: Eval,
    manifest: Path,
    quieter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scored = reconstruction.si_sdr
    calls: list[int] = []

    def interrupted(*arguments: NDArray[np.float32]) -> float:
        calls.append(1)
        if len(calls) == 3:
            interrupt()
        return scored(*arguments)

    monkeypatch.setattr(reconstruction, "si_sdr", interrupted)
    arguments = (
        manifest, "--system", f"q={quieter}", "--measures", "reconstruction", "--workers", 0,
        "-o", tmp_path / "eval",
    )  # fmt: skip
    assert evaluate(*arguments) == code
    assert capsys.readouterr().err == (
        f"eval: interrupted: what was scored is kept in {tmp_path / 'eval'}, and the same command "
        f"goes on from there\n{end}"
    )
    assert [path.name for path in (tmp_path / "eval").iterdir()] == ["scores-cache.jsonl"]
    assert evaluate(*arguments) == 0
    assert len(calls) == 3 + 4  # of six, two were known


@pytest.mark.integration
def test_real_speech_is_heard_and_voices_are_told_apart(
    evaluate: Eval, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Recordings of four speakers with all measures; needs the eval extra and `make whisper`."""
    checkout = Path(__file__).resolve().parents[2]
    whisper = Path(os.environ.get("SOUNDSTORM_WHISPER", checkout / "assets-cache/whisper-tiny"))
    if not (whisper / "model.bin").is_file():
        pytest.skip(f"no Whisper in {whisper}: run make whisper, or set SOUNDSTORM_WHISPER")
    with (shared / "data" / "valid.tsv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["text"]]
    first = {row["speaker"]: row for row in reversed(rows)}
    lines = [f"{row['id']}\t{shared / 'data' / row['audio']}\t{row['speaker']}\t{row['text']}"
             for row in list(first.values())[:4]]  # fmt: skip
    manifest = tmp_path / "four.tsv"
    manifest.write_text("\n".join(["id\taudio\tspeaker\ttext", *lines]) + "\n")
    assert evaluate(manifest, "--whisper", whisper, "--prompt-seconds", "2", "--json") == 0
    found = json.loads(capsys.readouterr().out)["systems"]["recordings"]
    assert found["wer"]["value"] < 0.2
    assert found["cer"]["value"] < found["wer"]["value"]
    assert found["dnsmos_overall"]["value"] > 2.5
    assert found["similarity_margin"]["low"] > 0
