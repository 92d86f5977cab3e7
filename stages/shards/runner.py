"""Running a row stage over any source into any sink: resumable, splittable, pipeable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.errors import DataMismatch, RowFailure
from stages.shards.failures import FAILURES_NAME, FailureLog
from stages.shards.partition import WHOLE, Shard, parse_part_name, part_name
from stages.shards.pipes import StreamWriter, binary_stdout
from stages.shards.provenance import hash_json
from stages.shards.row_stage import RowStage
from stages.shards.rows import REPEATED_ID, Row, extend_schema, row_problem
from stages.shards.source import RowSource, WorkUnit
from stages.shards.writer import require_writable, write_shard, written_provenance

ROWS_PER_SHARD = 256
STDOUT = "-"

Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run did."""

    output: str
    rows: int
    """Rows written by this run, without those of shards that were there already."""
    failed: int
    """Rows of the whole output that failed, now or in the run that made their shard."""
    shards_written: int
    shards_skipped: int
    failures: list[dict[str, str]]
    """Id and reason of each row that failed in this run."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run_row_stage(
    stage: RowStage,
    source: RowSource,
    *,
    output: str,
    shard: Shard | None = None,
    force: bool = False,
    rows_per_shard: int = ROWS_PER_SHARD,
    advance: Advance = lambda rows: None,
) -> RunResult:
    """Run `stage` over `source`, writing shards or a stream.

    Args:
        stage: what is done to each row.
        source: the rows.
        output: `-` for an Arrow stream on standard output, a `.parquet` file, or a folder.
        shard: the part of the work that is this job's.
        force: redo shards that are there and match.
        rows_per_shard: rows of an output shard, where the input is not in shards itself.
        advance: told of rows as they are done, for progress.

    Raises:
        DataMismatch: if the source does not fit the stage, or the output the source.
        StageFailure: if the source is cut short or the output cannot be written.
    """
    source.require_columns(*stage.required)
    stage.check(source.provenance, source.where)
    schema = extend_schema(source.schema, stage.fields)
    units = source.work_units(shard or WHOLE, rows_per_shard)
    if units is None and shard is not None:
        raise DataMismatch("--shard splits files: it cannot split a stream on standard input")
    run = _Run(stage, source, schema, advance)
    if output == STDOUT:
        return run.to_stream(units)
    target = Path(output)
    if target.suffix == ".parquet":
        if shard is not None:
            raise DataMismatch(f"--shard writes one file a part: give -o a folder, not {output}")
        name, folder = target.name, target.parent
        failures = target.with_suffix(f".{FAILURES_NAME}")
        units = [_merged(name, units, source)]
    else:
        folder, failures = target, target / FAILURES_NAME
        units = [_merged(part_name(0, 1), None, source)] if units is None else units
        _refuse_other_sets(folder, units)
    _refuse_own_input(folder, units, source)
    return run.to_folder(folder, units, failures, force=force, output=output)


def _merged(name: str, units: Sequence[WorkUnit] | None, source: RowSource) -> WorkUnit:
    """All the work as one shard."""
    if units is None:
        return WorkUnit(
            name=name,
            num_rows=0,
            provenance=source.provenance,
            fingerprint=lambda: "",  # a stream's content is known only when it is over
            batches=source.batches,
        )
    parts = list(units)
    return WorkUnit(
        name=name,
        num_rows=sum(unit.num_rows for unit in parts),
        provenance=source.provenance,
        fingerprint=lambda: hash_json([unit.fingerprint() for unit in parts]),
        batches=lambda: (batch for unit in parts for batch in unit.batches()),
    )


def _refuse_other_sets(folder: Path, units: Sequence[WorkUnit]) -> None:
    """A folder holds one set: two with different counts of parts would repeat rows."""
    counts = {number[1] for unit in units if (number := parse_part_name(unit.name))}
    existing = folder.glob("part-*.parquet") if folder.is_dir() else ()
    found = {number[1] for path in existing if (number := parse_part_name(path.name))}
    if found - counts and counts:
        raise DataMismatch(
            f"{folder} already holds a set of {min(found - counts)} parts and this run makes one "
            f"of {min(counts)}: choose another folder or remove the old set"
        )


def _refuse_own_input(folder: Path, units: Sequence[WorkUnit], source: RowSource) -> None:
    """Shards are never written over those they are made of, nor among the audio that they are of:
    a rerun could not begin again."""
    inputs = {path.resolve() for path in source.files}
    if folder.resolve() in {path.resolve() for path in source.folders}:
        raise DataMismatch(f"{folder} is an input, too: choose another -o")
    for unit in units:
        if (folder / unit.name).resolve() in inputs:
            raise DataMismatch(f"{folder / unit.name} is an input, too: choose another -o")


class _Run:
    """One stage over one source, and the counts that come of it."""

    def __init__(
        self, stage: RowStage, source: RowSource, schema: pa.Schema, advance: Advance
    ) -> None:
        self._stage, self._source, self._schema, self._advance = stage, source, schema, advance
        self._rows = 0
        self._seen: set[str] = set()
        self._failures: list[dict[str, str]] = []

    def to_stream(self, units: Sequence[WorkUnit] | None) -> RunResult:
        provenance = self._source.provenance.then(self._stage.record())
        writer = StreamWriter(binary_stdout(), self._schema, provenance)
        log = FailureLog(None)
        whole = self._source.batches()
        if units is not None:
            whole = (batch for unit in units for batch in unit.batches())
        for batch in whole:
            for _, row in self._results(batch, log):
                writer.write(row)
        writer.finish()
        self._failures = log.lines
        return self._result(STDOUT, log.count, written=0, skipped=0)

    def to_folder(
        self,
        folder: Path,
        units: Sequence[WorkUnit],
        failures: Path,
        *,
        force: bool,
        output: str,
    ) -> RunResult:
        written = skipped = failed = 0
        for unit in units:
            fingerprint = unit.fingerprint()
            record = self._stage.record(input_fingerprint=fingerprint)
            done = None if force or not fingerprint else written_provenance(folder / unit.name)
            if done and done.stages and done.stages[-1].fingerprint == record.fingerprint:
                failed += done.stages[-1].failed
                skipped += 1
                self._advance(unit.num_rows)
                continue
            failed += self._one_shard(folder / unit.name, unit, failures, fingerprint)
            written += 1
        return self._result(output, failed, written=written, skipped=skipped)

    def _one_shard(self, path: Path, unit: WorkUnit, failures: Path, fingerprint: str) -> int:
        require_writable(path.parent)
        self._seen.clear()  # other shards have other ids: their source looked
        log = FailureLog(failures, part=unit.name)
        batches = []
        for batch in unit.batches():
            results = sorted(self._results(batch, log), key=lambda result: result[0])
            batches.append([row for _, row in results])
        record = self._stage.record(input_fingerprint=fingerprint, failed=log.count)
        # First the failures: a shard that is there is never done again, so neither are they.
        log.save()
        write_shard(path, batches, self._schema, unit.provenance.then(record))
        self._failures += log.lines
        return log.count

    def _results(self, batch: list[Row], log: FailureLog) -> Iterator[tuple[int, Row]]:
        """The rows of a batch that are well, with their new columns, as they are done."""
        problems = [self._problem(row) for row in batch]
        well = [index for index, problem in enumerate(problems) if problem is None]
        for row, problem in zip(batch, problems, strict=True):
            if problem is not None:
                self._fail(row, problem, log)
        for position, outcome in self._stage.process([batch[index] for index in well]):
            row = batch[well[position]]
            if isinstance(outcome, RowFailure):
                self._fail(row, str(outcome), log)
                continue
            self._rows += 1
            self._advance(1)
            yield well[position], row | outcome

    def _problem(self, row: Row) -> str | None:
        """Why a row cannot be used, or None; only a stream can bring an id for a second time."""
        problem = row_problem(row, self._source.provenance)
        if problem is None and row["id"] in self._seen:
            problem = REPEATED_ID
        self._seen.add(row["id"])
        return problem

    def _fail(self, row: Row, reason: str, log: FailureLog) -> None:
        log.add(str(row.get("id")), reason)
        self._advance(1)

    def _result(self, output: str, failed: int, *, written: int, skipped: int) -> RunResult:
        return RunResult(
            output=output,
            rows=self._rows,
            failed=failed,
            shards_written=written,
            shards_skipped=skipped,
            failures=self._failures,
        )
