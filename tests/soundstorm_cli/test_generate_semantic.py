"""AudioLM from the command line: training its stages, speaking, decoding, refusing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from soundstorm_cli.main import run
from stages.shards.provenance import Provenance, StageRecord
from stages.shards.reader import open_rows
from stages.shards.rows import ID, SEMANTIC, Row
from stages.shards.spec import TokenSpec
from stages.shards.writer import write_shard

Command = Callable[..., Any]
PROGRAM = f"{sys.executable} -W ignore -m soundstorm_cli"


@pytest.fixture(scope="module")
def models(pipeline: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Folders of the three stages after a step each, with chunks of half a second."""
    folder = tmp_path_factory.mktemp("audiolm")
    common = ["layers=1", "heads=2", "width=16", "feed_forward=16", "overlap_seconds=0.2"]
    for stage in ("semantic", "coarse", "fine"):
        network = [*common, "chunk_seconds=0.5"]
        settings = [part for value in network for part in ("--set", f"network.{value}")]
        data = pipeline.semantic if stage == "semantic" else pipeline.full
        makers = [] if stage == "semantic" else ["--codec", pipeline.codec]
        makers += [] if stage == "fine" else ["--kmeans", pipeline.kmeans]
        arguments = [
            "train", data, "-o", folder / stage, "--model", f"audiolm-{stage}", "--max-steps", 1,
            "--device", "cpu", "--set", "batch_size=2", "--set", "data.max_seconds=0.5",
            "--set", "data.min_seconds=0.1", "--quiet", *settings, *makers,
        ]  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            run([str(argument) for argument in arguments])
        assert ended.value.code in (None, 0)
    return SimpleNamespace(**{path.name: path for path in folder.iterdir()})


def read(path: Path) -> dict[str, Row]:
    with open_rows(str(path)) as source:
        return {row["id"]: row for row in source.rows()}


def test_continues_every_row(
    command: Command, pipeline: SimpleNamespace, models: SimpleNamespace, tmp_path: Path
) -> None:
    arguments = ["generate-semantic", pipeline.full, "-m", models.semantic, "--seconds", 1.5]
    result = command(*arguments, "-o", tmp_path / "out", "--json", "--quiet")
    assert result.code == 0, result.err
    assert json.loads(result.out)["rows"] == 6
    spoken, given = read(tmp_path / "out"), read(pipeline.full)
    with open_rows(str(tmp_path / "out")) as source:
        rate = source.provenance.require_tokens("semantic", where="out").frame_rate
    for name, row in spoken.items():
        before = given[name]["semantic"]
        assert len(row["semantic"]) == len(before) + int(rate * 3 / 2)
        assert np.array_equal(row["semantic"][: len(before)], before)
        assert row["prompt_frames"] == len(row["acoustic"]) <= len(given[name]["acoustic"])
        assert row["speaker"] == given[name]["speaker"]
        assert given[name]["text"]
        assert row["text"] is None
    again = command(*arguments, "-o", tmp_path / "out")
    assert "shards already done" in again.err
    # Batches and parts of an array give the same rows.
    batched = command(*arguments, "-o", tmp_path / "batched.parquet", "--batch-seconds", 30)
    assert batched.code == 0
    for name, row in read(tmp_path / "batched.parquet").items():
        assert np.array_equal(row["semantic"], spoken[name]["semantic"])


def test_speaks_freely_and_is_heard(
    command: Command, pipeline: SimpleNamespace, models: SimpleNamespace, tmp_path: Path
) -> None:
    arguments = ["generate-semantic", "-m", models.semantic, "--free", 5, "--seconds", 1,
                 "--top-k", 5, "--top-p", 0.9]  # fmt: skip
    assert command(*arguments, "-o", tmp_path / "all").code == 0
    rows = read(tmp_path / "all")
    assert list(rows) == [f"free-{number:06d}" for number in range(5)]
    for part in range(2):
        assert command(*arguments, "-o", tmp_path / "parts", "--shard", f"{part}/2").code == 0
    parts = read(tmp_path / "parts")
    assert all(np.array_equal(parts[name]["semantic"], rows[name]["semantic"]) for name in rows)
    stages = ["--method", "audiolm", "--coarse", models.coarse, "--fine", models.fine]
    for number, method in enumerate((stages, ["--model", pipeline.model])):
        out = tmp_path / str(number)
        assert command("decode", tmp_path / "all", "-o", out, *method).code == 0
        for name, row in read(out).items():
            assert row["acoustic"].shape == (50, 12), name
            assert row["prompt_frames"] == 0
        assert command("vocode", out, "-o", tmp_path / f"wavs{number}").code == 0
        assert len(list((tmp_path / f"wavs{number}").glob("*.wav"))) == 5


def test_a_recording_goes_on_in_one_line(
    pipeline: SimpleNamespace, models: SimpleNamespace, speech_wav: Path, tmp_path: Path
) -> None:
    """Two seconds and three more, of which the first second is the recording's own sound."""
    line = (
        f"set -o pipefail; {PROGRAM} tokenize-semantic {speech_wav} -k {pipeline.kmeans}"
        f" | {PROGRAM} tokenize-acoustic --codec {pipeline.codec}"
        f" | {PROGRAM} generate-semantic --model {models.semantic} --seconds 3"
        f" | {PROGRAM} decode --method audiolm --coarse {models.coarse} --fine {models.fine}"
        f" --prompt-seconds 1 | {PROGRAM} vocode"
    )
    root = str(Path(__file__).resolve().parents[2])
    result = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    (wav,) = (tmp_path / "wavs").rglob("*.wav")
    samples, rate = soundfile.read(wav)
    assert abs(len(samples) - 5 * rate) <= 2 * 320
    assert np.isfinite(samples).all()


def test_own_and_voice_prompts_by_audiolm(
    command: Command, pipeline: SimpleNamespace, models: SimpleNamespace, tmp_path: Path
) -> None:
    stages = ["--method", "audiolm", "--coarse", models.coarse, "--fine", models.fine]
    given = read(pipeline.full)
    out = tmp_path / "own.parquet"
    assert command("decode", pipeline.full, "-o", out, *stages, "--prompt-seconds", 0.4).code == 0
    for name, row in read(out).items():
        assert row["acoustic"].shape == given[name]["acoustic"].shape
        assert row["prompt_frames"] == 20
        assert np.array_equal(row["acoustic"][:20], given[name]["acoustic"][:20])
    out = tmp_path / "voice.parquet"
    voice = ["--prompt", pipeline.full, "--prompt-row", "s1/u2", "--prompt-seconds", 0.4]
    result = command("decode", pipeline.full, "-o", out, *stages, *voice, "--keep-prompt")
    assert result.code == 0, result.err
    for row in read(out).values():
        assert row["prompt_frames"] == 20
        assert np.array_equal(row["acoustic"][:20], given["s1/u2"]["acoustic"][:20])


def test_coarse_levels_alone(
    command: Command, pipeline: SimpleNamespace, models: SimpleNamespace, tmp_path: Path
) -> None:
    coarse = ["decode", pipeline.full, "--method", "audiolm", "--coarse", models.coarse]
    result = command(*coarse, "--levels", 3, "-o", tmp_path / "out")
    assert result.code == 0, result.err
    assert {row["acoustic"].shape[1] for row in read(tmp_path / "out").values()} == {3}
    # What is not needed is not read, nor asked of a prompt.
    alone = [*coarse, "--levels", 4, "--fine", tmp_path / "none"]
    result = command(*alone, "-o", tmp_path / "four")
    assert result.code == 0, result.err
    with open_rows(str(tmp_path / "four")) as source:
        assert set(source.provenance.stages[-1].models) == {"audiolm-coarse"}
    alone[1] = tmp_path / "four"
    result = command(*alone, "--prompt-seconds", 0.2, "-o", tmp_path / "on")
    assert result.code == 0, result.err
    refused = command(*coarse, "--levels", 5, "-o", tmp_path / "more")
    assert refused.code == 2
    assert "needs --fine for more levels than the 4" in refused.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "wavenet"], "--method wavenet is neither of soundstorm and audiolm"),
        (["--method", "audiolm"], "do not fit"),  # mini's, to tokens of another k-means
        (["--method", "audiolm", "--coarse", "{fine}"], "holds a audiolm-fine model where"),
        (["--method", "audiolm", "--model", "x"], "--model goes with --method soundstorm"),
        (["--method", "audiolm", "--iterations", "1"], "--iterations goes with"),
        (["--method", "audiolm", "--trace", "t.parquet"], "--trace goes with"),
        (["--coarse", "{coarse}"], "--coarse goes with --method audiolm, not with soundstorm"),
        (["--method", "audiolm", "--coarse", "{coarse}", "--fine", "{fine}", "--levels", "13"],
         "--levels 13 is more than the model's 12"),
        (["--method", "audiolm", "--coarse", "{coarse}", "--fine", "{model}"], "soundstorm model"),
    ],
)  # fmt: skip
def test_decode_refusals(
    arguments: list[str],
    sentence: str,
    command: Command,
    pipeline: SimpleNamespace,
    models: SimpleNamespace,
    tmp_path: Path,
) -> None:
    filled = [
        argument.format(coarse=models.coarse, fine=models.fine, model=pipeline.model)
        for argument in arguments
    ]
    result = command("decode", pipeline.full, "-o", tmp_path / "out", *filled)
    assert result.code == 2
    assert sentence in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{full}", "--free", "2"], "--free makes rows from nothing"),
        (["--free", "2", "--prompt-seconds", "1"], "--free makes rows from nothing"),
        (["{full}", "--seconds", "0"], "--seconds 0 is no number of seconds"),
        (["{full}", "--seconds", "0.01"], "not one semantic token at 50 Hz"),
        (["{full}", "--prompt-seconds", "x"], "--prompt-seconds x is no number"),
        (["{full}", "--top-k", "0"], "a top-k of 0"),
        (["{full}", "--top-p", "1.5"], "a top-p of 1.5"),
        (["{full}", "--model", "{coarse}"], "audiolm-coarse model where a audiolm-semantic"),
        (["{wav}"], "run tokenize-semantic on it first"),
        (["{full}", "--device", "abacus"], "no device abacus"),
    ],
)
def test_generate_refusals(
    arguments: list[str],
    sentence: str,
    command: Command,
    pipeline: SimpleNamespace,
    models: SimpleNamespace,
    speech_wav: Path,
    tmp_path: Path,
) -> None:
    filled = [
        argument.format(full=pipeline.full, coarse=models.coarse, wav=speech_wav)
        for argument in arguments
    ]
    model = [] if "--model" in filled else ["--model", models.semantic]
    result = command("generate-semantic", *filled, *model, "-o", tmp_path / "out")
    assert result.code == 2
    assert sentence in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_tokens_of_others_are_refused(
    command: Command, pipeline: SimpleNamespace, models: SimpleNamespace, tmp_path: Path
) -> None:
    """Rows of another k-means, to a model that does not speak its tokens."""
    spec = TokenSpec(
        kind="semantic", name="other", fingerprint="f" * 64, frame_rate=Fraction(50),
        codebook_size=16,
    )  # fmt: skip
    record = StageRecord(stage="tokenize-semantic", version="0", settings={}, tokens=spec)
    rows = [{"id": "a", "semantic": np.zeros(20, np.uint16)}]
    shard = tmp_path / "in.parquet"
    write_shard(shard, [rows], pa.schema([ID, SEMANTIC]), Provenance((record,)))
    for arguments in (
        ["generate-semantic", shard, "-m", models.semantic],
        ["decode", shard, "--method", "audiolm", "--coarse", models.coarse, "--fine", models.fine],
    ):
        result = command(*arguments, "-o", tmp_path / "out")
        assert result.code == 2
        assert "do not fit: their maker is" in result.err
