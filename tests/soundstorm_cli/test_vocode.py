"""`soundstorm vocode` as a user runs it, in pipes and with what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from soundstorm_cli.main import run
from stages.codec.manifest import read_manifest
from stages.codec.mel.config import MelCodecConfig, VocoderConfig
from stages.codec.mel.model import save_codec, save_vocoder
from stages.codec.mel.network import MelCodec
from stages.codec.mel.vocoder import Vocoder
from stages.shards.reader import open_rows


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        run([*map(str, arguments)])
    return int(ended.value.code or 0)


def soundstorm(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "soundstorm_cli", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
    )


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("codec") / "c"
    config = MelCodecConfig(
        width=16, hidden=16, blocks=1, kernel=3, mels=20, levels=3, codebook_size=32
    )
    torch.manual_seed(0)
    network = MelCodec(config)
    network.loss(torch.randn(1, 16_000), torch.tensor([16_000]))
    save_codec(folder, config=config, weights=network.state_dict())
    sound = VocoderConfig(width=16, hidden=16, blocks=1, mels=20, fft=640)
    save_vocoder(folder / "vocoder", config=sound, weights=Vocoder(sound).state_dict())
    return folder


@pytest.fixture(scope="module")
def tokens(corpus: Path, codec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens") / "full"
    manifest = corpus / "manifest.tsv"
    assert command(
        "tokenize-acoustic", manifest, "-o", folder, "--codec", codec, "--workers", 0
    ) == 0  # fmt: skip
    return folder


def test_files_are_named_after_their_rows(
    tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert command("vocode", tokens, "-o", tmp_path / "wavs", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["rows"], result["failed"], result["skipped"]) == (6, 0, 0)
    with open_rows(str(tokens)) as source:
        frames = {row["id"]: len(row["acoustic"]) for row in source.rows()}
    for entry in read_manifest(tmp_path / "wavs"):
        assert entry.file == f"{entry.id}.wav"
        info = soundfile.info(tmp_path / "wavs" / entry.file)
        assert (info.samplerate, info.frames) == (16_000, frames[entry.id] * 320)
    assert command("vocode", tokens, "-o", tmp_path / "wavs", "--json") == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 6


def test_sound_over_full_scale_is_told_of(
    tokens: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loud = np.full((1, 320), 2.0, np.float32)
    monkeypatch.setattr("stages.codec.vocoding.decode_codes", lambda codec, codes: loud)
    assert command("vocode", tokens, "-o", tmp_path / "wavs") == 0
    assert "6 rows are louder than full scale in places" in capsys.readouterr().err


def test_with_no_output_files_go_to_wavs(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("vocode", tokens, "--format", "flac") == 0
    assert sorted(path.name for path in (tmp_path / "wavs" / "s0").iterdir()) == [
        "u0.flac", "u1.flac", "u2.flac",
    ]  # fmt: skip


def test_array_jobs_share_a_folder(tokens: Path, tmp_path: Path) -> None:
    for part in ("1/2", "0/2"):
        assert command("vocode", tokens, "-o", tmp_path, "--shard", part, "-q") == 0
    assert len(read_manifest(tmp_path)) == 6


def test_a_parquet_file_on_standard_input_becomes_a_stream(tokens: Path, tmp_path: Path) -> None:
    (part,) = tokens.glob("*.parquet")
    wave = soundstorm("vocode", "-o", "-", stdin=part.read_bytes())
    assert wave.returncode == 0, wave.stderr
    assert wave.stdout[:4] == b"RIFF"
    assert wave.stdout[40:44] == b"\xff\xff\xff\xff"
    (tmp_path / "out.wav").write_bytes(wave.stdout)
    samples, rate = soundfile.read(tmp_path / "out.wav")
    with open_rows(str(tokens)) as source:
        total = sum(len(row["acoustic"]) for row in source.rows())
    assert (len(samples), rate) == (total * 320, 16_000)
    raw = soundstorm("vocode", part, "-o", "-", "--raw")
    assert raw.stdout == wave.stdout[44:]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--raw"], "--raw is for a stream"),
        (["-o", "-", "--format", "flac"], "a stream is WAV"),
        (["-o", "-", "--shard", "0/2"], "--shard splits work into files"),
        (["-o", "-", "--json"], "share standard output"),
        (["--codec", "lyra:nowhere"], "has no soundstream_encoder.tflite"),
        (["--vocoder", "nowhere"], "nowhere is no model"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tokens: Path, options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("vocode", tokens, *options) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_a_cut_stream_is_a_failure_with_a_sentence(tokens: Path, tmp_path: Path) -> None:
    (part,) = tokens.glob("*.parquet")
    for stdin in (b"", part.read_bytes()[:-100], b"RIFF....WAVE"):
        ended = soundstorm("vocode", "-", "-o", tmp_path / "wavs", stdin=stdin)
        assert ended.returncode in (1, 2)
        assert b"Traceback" not in ended.stderr
        assert ended.stderr.startswith(b"soundstorm: ")


def test_a_set_without_acoustic_tokens_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from stages.shards.provenance import Provenance

    schema = pa.schema([pa.field("id", pa.string())]).with_metadata(Provenance().to_metadata())
    pq.write_table(pa.table({"id": ["a"]}, schema=schema), tmp_path / "a.parquet")
    assert command("vocode", tmp_path / "a.parquet") == 2
    assert "has no column `acoustic`" in capsys.readouterr().err


def test_a_row_past_the_codebook_fails_and_its_neighbours_sound(
    tokens: Path, tmp_path: Path
) -> None:
    from stages.shards.writer import write_shard

    with open_rows(str(tokens)) as source:
        rows = list(source.rows())
        codes = np.array(rows[2]["acoustic"])
        codes[0, 0] = 999
        rows[2]["acoustic"] = codes
        write_shard(tmp_path / "bad.parquet", [rows], source.schema, source.provenance)
    assert command("vocode", tmp_path / "bad.parquet", "-o", tmp_path / "wavs") == 1
    assert len(read_manifest(tmp_path / "wavs")) == 5
    (line,) = (tmp_path / "wavs" / "failures.jsonl").read_text().splitlines()
    assert "past the codebook" in json.loads(line)["reason"]
    assert command(
        "vocode", tmp_path / "bad.parquet", "-o", tmp_path / "wavs", "--keep-going"
    ) == 0  # fmt: skip
