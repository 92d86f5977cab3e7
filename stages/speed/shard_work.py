"""Reading and writing token shards, beside plain pyarrow with the same table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.shards.provenance import Provenance, StageRecord
from stages.shards.reader import open_rows
from stages.shards.rows import AUDIO, ID, NUM_SAMPLES, SAMPLE_RATE, SEMANTIC, SPEAKER, TEXT, Row
from stages.shards.rows import acoustic_field as acoustic
from stages.shards.source import ROWS_PER_BATCH
from stages.shards.writer import write_shard
from stages.speed.cells import Cell
from stages.speed.measured import Measured
from stages.speed.shapes import SEMANTIC_RATE, frames_of, soundstorm_shape, token_specs
from stages.speed.work import Limits


def measure_shards(cell: Cell, limits: Limits) -> dict[str, Measured]:
    """Time a shard of `cell.batch` rows of `cell.seconds`, in turns with plain pyarrow.

    - *write*: rows with numpy arrays to a file that is whole, synced and renamed.
    - *write by pyarrow alone*: the finished table to a file, with the same compression.
    - *read*: a file to checked rows with numpy arrays, its ids' uniqueness included.
    - *read by pyarrow alone*: a file to a table.

    Args:
        cell: how many rows, how long.
        limits: rounds, and seconds that they may take together.

    Returns:
        Times by what was done.
    """
    rows, schema, provenance = _rows(cell)
    starts = range(0, len(rows), ROWS_PER_BATCH)
    batches = [rows[start : start + ROWS_PER_BATCH] for start in starts]
    with TemporaryDirectory(prefix="soundstorm-bench-") as folder:
        ours, plain = Path(folder) / "ours.parquet", Path(folder) / "plain.parquet"
        write_shard(ours, batches, schema, provenance)
        table = pq.read_table(ours)

        def read() -> None:
            with open_rows(ours) as source:
                for _ in source.rows():
                    pass

        todo: dict[str, Callable[[], object]] = {
            "write": lambda: write_shard(ours, batches, schema, provenance),
            "write by pyarrow alone": lambda: pq.write_table(
                table, plain, compression="zstd", use_dictionary=False
            ),
            "read": read,
            "read by pyarrow alone": lambda: pq.read_table(plain),
        }
        times = in_turns(todo, limits)
        size = ours.stat().st_size
    return {
        name: Measured(
            times=found,
            spent=sum(found),
            more={
                "rows_per_second": len(rows) / float(np.median(found)),
                "file_bytes_per_second": size / float(np.median(found)),
            },
        )
        for name, found in times.items()
    }


def in_turns(todo: Mapping[str, Callable[[], object]], limits: Limits) -> dict[str, list[float]]:
    """Seconds of each of several things, done in turns after one unmeasured turn."""
    for work in todo.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in todo}
    rounds: list[float] = []
    while not rounds or (len(rounds) < limits.repeats and sum(rounds) + rounds[-1] < limits.budget):
        for name, work in todo.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
        rounds.append(sum(found[-1] for found in times.values()))
    return times


def _rows(cell: Cell) -> tuple[list[Row], pa.Schema, Provenance]:
    config = soundstorm_shape("mini", cell.levels)
    random = np.random.default_rng(0)
    frames, count = frames_of(cell.seconds), int(cell.seconds * SEMANTIC_RATE)
    rows: list[Row] = [
        {
            "id": f"speaker-{index % 40}/utterance-{index:05}",
            "audio": f"/corpus/speaker-{index % 40}/utterance-{index:05}.flac",
            "speaker": f"speaker-{index % 40}",
            "text": "the words of an utterance are about as long as this",
            "num_samples": int(cell.seconds * 16_000),
            "sample_rate": 16_000,
            "semantic": random.integers(config.semantic_codebook_size, size=count, dtype=np.uint16),
            "acoustic": random.integers(
                config.codebook_size, size=(frames, cell.levels), dtype=np.uint16
            ),
        }
        for index in range(cell.batch)
    ]
    fields = [ID, AUDIO, SPEAKER, TEXT, NUM_SAMPLES, SAMPLE_RATE, SEMANTIC, acoustic(cell.levels)]
    return rows, pa.schema(fields), random_provenance(cell.levels)


def random_provenance(levels: int) -> Provenance:
    """Of made-up tokens."""
    specs = token_specs(soundstorm_shape("mini", levels))
    return Provenance(
        tuple(
            StageRecord(stage=f"tokenize-{kind}", version="0", settings={}, tokens=specs[kind])
            for kind in ("semantic", "acoustic")
        )
    )
