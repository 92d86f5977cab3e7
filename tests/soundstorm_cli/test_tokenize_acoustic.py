"""`soundstorm tokenize-acoustic` as a user runs it, with what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from soundstorm_cli.main import run
from stages.codec.mel.config import MelCodecConfig
from stages.codec.mel.model import save_codec
from stages.codec.mel.network import MelCodec
from stages.shards.reader import open_rows
from stages.shards.rows import Row


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        run([*map(str, arguments), "--workers", "0"])
    return int(ended.value.code or 0)


def rows_in(folder: Path) -> list[Row]:
    with open_rows(str(folder)) as source:
        return list(source.rows())


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
    return folder


def test_audio_is_an_input_as_for_the_semantic_stage(
    corpus: Path, codec: Path, tmp_path: Path
) -> None:
    manifest = corpus / "manifest.tsv"
    assert command("tokenize-acoustic", manifest, "-o", tmp_path / "a", "--codec", codec) == 0
    rows = rows_in(tmp_path / "a")
    assert [row["id"] for row in rows] == [f"s{s}/u{u}" for s in range(2) for u in range(3)]
    assert rows[1]["sample_rate"] == 24_000
    assert rows[0]["text"] == "made up 0"
    for row in rows:
        samples = -(-row["num_samples"] * 16_000 // row["sample_rate"])
        assert row["acoustic"].shape == (-(-samples // 320), 3)
    with open_rows(str(tmp_path / "a")) as source:
        spec = source.provenance.require_tokens("acoustic", where="here")
    assert (spec.frame_rate, spec.codebook_size, spec.levels) == (50, 32, 3)
    assert spec.name == str(codec)


def test_shards_of_semantic_tokens_keep_their_columns(
    corpus: Path, codec: Path, tmp_path: Path
) -> None:
    kmeans, semantic, full = tmp_path / "km", tmp_path / "semantic", tmp_path / "full"
    assert command("fit-kmeans", corpus, "-o", kmeans, "--clusters", 8, "-q") == 0
    assert command("tokenize-semantic", corpus, "-o", semantic, "-k", kmeans) == 0
    assert command("tokenize-acoustic", semantic, "-o", full, "--codec", codec) == 0
    for before, after in zip(rows_in(semantic), rows_in(full), strict=True):
        np.testing.assert_array_equal(before["semantic"], after["semantic"])
        assert after["acoustic"].shape[1] == 3


def test_parts_hold_what_one_run_holds(corpus: Path, codec: Path, tmp_path: Path) -> None:
    for part in range(3):
        assert command(
            "tokenize-acoustic", corpus, "-o", tmp_path / "parts", "--codec", codec,
            "--shard", f"{part}/3",
        ) == 0  # fmt: skip
    assert command("tokenize-acoustic", corpus, "-o", tmp_path / "one", "--codec", codec) == 0
    parts = sorted(rows_in(tmp_path / "parts"), key=lambda row: str(row["id"]))
    for one, other in zip(rows_in(tmp_path / "one"), parts, strict=True):
        assert one["id"] == other["id"]
        np.testing.assert_array_equal(one["acoustic"], other["acoustic"])


def test_a_rerun_skips_and_other_levels_redo(
    corpus: Path, codec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = []
    for options in ([], [], ["--levels", 2], ["--bitrate", 0.5]):
        assert command(
            "tokenize-acoustic", corpus, "-o", tmp_path, "--codec", codec, "--json", *options
        ) == 0  # fmt: skip
        written.append(json.loads(capsys.readouterr().out)["shards_written"])
    assert written == [1, 0, 1, 0]  # 0.5 kbit/s are two levels of 250 bit/s
    assert rows_in(tmp_path)[0]["acoustic"].shape[1] == 2


def test_bad_files_fail_alone(corpus: Path, codec: Path, tmp_path: Path) -> None:
    good = next(corpus.rglob("*.wav"))
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.flac").write_text("no audio")
    (tmp_path / "cut.wav").write_bytes(good.read_bytes()[:30])
    (tmp_path / "good.wav").write_bytes(good.read_bytes())
    output = tmp_path / "out"
    assert command("tokenize-acoustic", tmp_path, "-o", output, "--codec", codec) == 1
    assert [row["id"] for row in rows_in(output)] == ["good"]
    lines = (output / "failures.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["id"] for line in lines) == ["cut", "empty", "text"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--codec", "none"], "none is no codec"),
        (["--levels", 4], "has 1 to 3 levels"),
        (["--levels", 2, "--bitrate", 0.5], "not both"),
        (["--shard", "3/3"], "--shard 3/3"),
        (["--device", "gpu"], "there is no device gpu"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    corpus: Path,
    codec: Path,
    tmp_path: Path,
    options: list[object],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = ["tokenize-acoustic", corpus, "-o", tmp_path / "out", "--codec", codec]
    assert command(*base, *options) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
