"""The commands as processes: piped into each other, killed, interrupted, restarted."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from stages.shards.reader import open_rows

PROGRAM = [sys.executable, "-W", "ignore", "-m", "soundstorm_cli"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def soundstorm(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output="stdout" not in options,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which `soundstorm` is this checkout's."""
    define = f'soundstorm() {{ {" ".join(PROGRAM)} "$@"; }}\nset -o pipefail\n'
    environment = ENVIRONMENT | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.run(
        ["bash", "-c", define + line],
        cwd=folder, env=environment, capture_output=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def stream(pipeline: SimpleNamespace) -> bytes:
    """The Arrow stream that `decode` pipes on."""
    result = soundstorm("decode", pipeline.full, "--model", pipeline.model)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_recording_to_sound_in_one_line(pipeline, speech_wav, tmp_path):
    line = (
        f"soundstorm tokenize-semantic {speech_wav} -k {pipeline.kmeans}"
        f" | soundstorm tokenize-acoustic - --codec {pipeline.codec}"
        f" | soundstorm decode - --model {pipeline.model} --prompt-seconds 1"
        " | soundstorm vocode -o - > out.wav"
    )
    result = shell(line, tmp_path)
    assert result.returncode == 0, result.stderr
    samples, rate = soundfile.read(io.BytesIO((tmp_path / "out.wav").read_bytes()))
    assert rate == 16_000
    assert abs(len(samples) - 2 * rate) <= 2 * 320
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() > 0


def test_decode_into_vocode_writes_wavs(pipeline, tmp_path):
    line = f"soundstorm decode {pipeline.full} --model {pipeline.model} | soundstorm vocode"
    result = shell(line, tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "wavs").rglob("*.wav"))) == 6


@pytest.mark.parametrize("stage", ["tokenize-acoustic", "decode", "vocode", "tokenize-semantic"])
@pytest.mark.parametrize("cut", ["nothing", "inside", "before the end"])
def test_a_consumer_notices_that_its_producer_died(stage, cut, stream, pipeline, tmp_path, command):
    whole = len(stream)
    data = stream[: {"nothing": 0, "inside": whole // 2, "before the end": whole - 300}[cut]]
    options = {
        "tokenize-semantic": ["-k", pipeline.kmeans, "--workers", 0],
        "tokenize-acoustic": ["--codec", pipeline.codec, "--workers", 0],
        "decode": ["--model", pipeline.model],
        "vocode": ["--codec", pipeline.codec],
    }[stage]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        result = command(stage, "-", "-o", tmp_path / "out", *options)
    assert result.code == 1
    assert "producer failed" in result.err
    assert "Traceback" not in result.err
    assert not list(tmp_path.glob("out/*.parquet"))


def test_a_killed_producer_ends_the_whole_pipe_with_1(pipeline, tmp_path):
    producer = subprocess.Popen(
        [*PROGRAM, "decode", str(pipeline.full), "--model", str(pipeline.model)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT,
    )  # fmt: skip
    consumer = subprocess.Popen(
        [*PROGRAM, "vocode", "-o", str(tmp_path / "wavs")],
        stdin=producer.stdout, stderr=subprocess.PIPE, env=ENVIRONMENT,
    )  # fmt: skip
    producer.kill()
    assert producer.stdout is not None
    producer.stdout.close()
    _, said = consumer.communicate()
    producer.wait()
    assert consumer.returncode == 1
    assert b"producer failed" in said


def test_a_parquet_file_on_standard_input(pipeline, tmp_path):
    [part] = pipeline.full.glob("*.parquet")
    with part.open("rb") as file:
        result = soundstorm(
            "decode", "-", "--model", pipeline.model, "-o", tmp_path / "out", stdin=file
        )
    assert result.returncode == 0, result.stderr
    assert open_rows(tmp_path / "out").num_rows == 6


@pytest.mark.parametrize("stage", ["decode", "tokenize-acoustic"])
def test_a_terminal_is_refused(stage, pipeline):
    option = ["--model", pipeline.model] if stage == "decode" else ["--codec", pipeline.codec]
    leader, follower = pty.openpty()
    try:
        result = soundstorm(stage, pipeline.full, *option, stdout=follower, stderr=subprocess.PIPE)
    finally:
        os.close(leader)
        os.close(follower)
    assert result.returncode == 2
    assert b"terminal" in result.stderr


def test_a_reader_that_leaves_early_is_no_error(pipeline, tmp_path):
    line = f"soundstorm decode {pipeline.full} --model {pipeline.model} -q | head -c 10 > head"
    result = shell(line, tmp_path)
    assert result.returncode in (0, 141)
    assert result.stderr == b""


def wait_for(condition, process) -> None:
    while not condition():
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.01)


def shards_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


@pytest.mark.parametrize("stage", ["tokenize-semantic", "tokenize-acoustic"])
def test_killed_and_run_again_gives_the_same_bytes(stage, pipeline, corpus, tmp_path):
    option = (
        ["-k", pipeline.kmeans] if stage == "tokenize-semantic" else ["--codec", pipeline.codec]
    )
    arguments = [stage, corpus / "manifest.tsv", *option, "--rows-per-shard", 1, "--workers", 0]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert soundstorm(*arguments, "-o", undisturbed).returncode == 0
    process = subprocess.Popen(
        [*PROGRAM, *map(str, arguments), "-o", str(killed)],
        env=ENVIRONMENT, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: shards_of(killed), process)
    process.kill()
    process.wait()
    assert 0 < len(shards_of(killed)) <= 6
    assert soundstorm(*arguments, "-o", killed).returncode == 0
    assert shards_of(killed) == shards_of(undisturbed)


@pytest.mark.parametrize(
    ("number", "code", "says"), [(signal.SIGINT, 130, b""), (signal.SIGTERM, 143, b"terminated")]
)
def test_a_signal_leaves_only_whole_shards(number, code, says, pipeline, corpus, tmp_path):
    output = tmp_path / "out"
    process = subprocess.Popen(
        [*PROGRAM, "tokenize-acoustic", str(corpus / "manifest.tsv"), "-o", str(output),
         "--codec", str(pipeline.codec), "--rows-per-shard", "1", "--workers", "1"],
        env=ENVIRONMENT, stderr=subprocess.PIPE, process_group=0,
    )  # fmt: skip
    wait_for(lambda: output.exists() and list(output.glob("*.parquet")), process)
    os.killpg(process.pid, number)
    _, said = process.communicate()
    if process.returncode == 0:
        pytest.skip("it was done before it was interrupted")
    assert process.returncode == code
    assert says in said
    assert not any(word in said for word in (b"Traceback", b"resource_tracker", b"died"))
    assert not list(output.glob("*.tmp"))
    for part in output.glob("*.parquet"):
        assert open_rows(part).num_rows == 1


def test_three_jobs_make_the_rows_of_one(pipeline, corpus, tmp_path, command):
    manifest = corpus / "manifest.tsv"
    stages = {
        "tokenize-semantic": ["-k", pipeline.kmeans],
        "tokenize-acoustic": ["--codec", pipeline.codec],
    }
    for stage, option in stages.items():
        one, three = tmp_path / f"{stage}-one", tmp_path / f"{stage}-three"
        assert command(stage, manifest, "-o", one, "--workers", 0, *option).code == 0
        for index in range(3):
            share = ["--shard", f"{index}/3"]
            result = command(stage, manifest, "-o", three, "--workers", 0, *share, *option)
            assert result.code == 0
        column = "semantic" if stage == "tokenize-semantic" else "acoustic"
        tokens = [
            {row["id"]: row[column].tolist() for row in open_rows(folder).rows()}
            for folder in (one, three)
        ]
        assert len(tokens[0]) == 6
        assert tokens[0] == tokens[1]
