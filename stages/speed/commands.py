"""Whole commands, from their start to their end: what one waits for in a shell."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from stages.assets import MINI, model_folder
from stages.errors import StageFailure
from stages.nn.model_file import read_model_config
from stages.shards.provenance import Provenance, StageRecord
from stages.shards.rows import ID, SEMANTIC
from stages.shards.spec import TokenSpec
from stages.shards.writer import write_shard
from stages.speed.cells import Cell
from stages.speed.measured import Measured
from stages.speed.shard_work import in_turns
from stages.speed.work import Limits

SOUNDSTORM = (sys.executable, "-m", "soundstorm_cli")

WAVE_HEADER = 44
"""Bytes before the first sample of a WAV stream."""

PIECE = 1 << 16


def measure_startup(cell: Cell, limits: Limits, device: str) -> dict[str, Measured]:
    """Time commands that do next to nothing, in turns with what they cannot do without.

    Args:
        cell: seconds of audio of the smallest decoding.
        limits: rounds, and seconds that they may take together.
        device: for `decode`.

    Returns:
        Times by command.

    Raises:
        StageFailure: if a command fails.
    """
    with TemporaryDirectory(prefix="soundstorm-bench-") as folder:
        tokens, output = Path(folder) / "tokens.parquet", Path(folder) / "decoded.parquet"
        write_tokens(tokens, cell)
        decode = [*SOUNDSTORM, *_decode(tokens, device), "-o", str(output), "--force"]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "soundstorm --help": [*SOUNDSTORM, "--help"],
            "python -c 'import torch'": [sys.executable, "-c", "import torch"],
            f"soundstorm decode, 1 row of {float(cell.seconds):g} s": decode,
        }
        todo = {name: partial(_run, command) for name, command in commands.items()}
        times = in_turns(todo, limits)
    return {name: Measured(times=found, spent=sum(found)) for name, found in times.items()}


def measure_pipe(cell: Cell, limits: Limits, device: str) -> Measured:
    """Time `soundstorm decode | soundstorm vocode -o -` with the models that ship.

    Args:
        cell: how many rows, how long.
        limits: runs, and seconds that they may take together.
        device: for both.

    Raises:
        StageFailure: if a command fails.
    """
    times: list[float] = []
    firsts: list[float] = []
    with TemporaryDirectory(prefix="soundstorm-bench-") as folder:
        tokens = Path(folder) / "tokens.parquet"
        write_tokens(tokens, cell)
        while not times or (len(times) < limits.repeats and sum(times) + times[-1] < limits.budget):
            first, whole = _run_pipe(tokens, device)
            firsts.append(first)
            times.append(whole)
    shares = [first / whole for first, whole in zip(firsts, times, strict=True)]
    return Measured(
        times=times,
        spent=sum(times),
        more={
            "first_sound": float(np.median(firsts)),
            "first_sound_share": float(np.median(shares)),
        },
    )


def write_tokens(path: Path, cell: Cell) -> None:
    """A shard of made-up semantic tokens that the SoundStorm that ships takes for its own."""
    document = read_model_config(model_folder(MINI, "soundstorm"), kind="soundstorm")
    spec = TokenSpec.from_json(document["tokens"]["semantic"])
    random = np.random.default_rng(0)
    count = int(cell.seconds * spec.frame_rate)
    rows = [
        {
            "id": f"row-{index}",
            "semantic": random.integers(spec.codebook_size, size=count, dtype=np.uint16),
        }
        for index in range(cell.batch)
    ]
    made = StageRecord(stage="tokenize-semantic", version="0", settings={}, tokens=spec)
    write_shard(path, [rows], pa.schema([ID, SEMANTIC]), Provenance((made,)))


def _decode(tokens: Path, device: str) -> Sequence[str]:
    return "decode", str(tokens), "--device", device, "--quiet"


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, check=False, env=environment())
    if done.returncode:
        raise _failed(command, done.returncode, done.stderr)


def _run_pipe(tokens: Path, device: str) -> tuple[float, float]:
    """Seconds from the start to the first sample, and to the end."""
    vocode = [*SOUNDSTORM, "vocode", "-", "-o", "-", "--device", device, "--quiet"]
    decode = [*SOUNDSTORM, *_decode(tokens, device), "-o", "-"]
    start = time.perf_counter()
    with (
        subprocess.Popen(decode, stdout=subprocess.PIPE, env=environment()) as producer,
        subprocess.Popen(
            vocode, stdin=producer.stdout, stdout=subprocess.PIPE, env=environment()
        ) as consumer,
    ):
        assert producer.stdout is not None
        assert consumer.stdout is not None
        producer.stdout.close()  # so that the producer notices if the consumer dies
        header = consumer.stdout.read(WAVE_HEADER + 1)
        first = time.perf_counter() - start
        while consumer.stdout.read(PIECE):
            pass
        whole = time.perf_counter() - start
    for command, process in ((decode, producer), (vocode, consumer)):
        if process.returncode:
            raise _failed(command, process.returncode, b"")
    if len(header) <= WAVE_HEADER:
        raise StageFailure("soundstorm decode | soundstorm vocode -o - made no sound")
    return first, whole


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """For a process that is to find the toolkit where this one did."""
    package = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, **(more or {})}


def _failed(command: Sequence[str], code: int, errors: bytes) -> StageFailure:
    told = errors.decode(errors="replace").strip().splitlines()
    reason = f": {told[-1]}" if told else ""
    return StageFailure(f"`{' '.join(command)}` ended with exit code {code}{reason}")
