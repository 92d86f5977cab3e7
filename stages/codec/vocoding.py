"""Acoustic tokens to sound: one file a row, or one stream."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from stages.codec.base import Codec, UnusableVocoder
from stages.codec.manifest import Manifest, SoundFile
from stages.codec.registry import load_codec
from stages.codec.single import Samples, decode_codes
from stages.codec.wave_stream import SoundStream
from stages.errors import DataMismatch, RowFailure
from stages.shards.failures import FAILURES_NAME, FailureLog
from stages.shards.partition import Shard
from stages.shards.provenance import hash_json
from stages.shards.rows import REPEATED_ID, Row, row_problem
from stages.shards.source import RowSource
from stages.shards.writer import atomic_path, cannot_write
from stages.version import __version__

SoundFormat = Literal["wav", "flac"]
Advance = Callable[[int], None]
COLUMNS = ("id", "acoustic")


@dataclass(frozen=True, kw_only=True)
class VocodeResult:
    """What a run did."""

    output: str

    rows: int
    """Rows turned into sound by this run."""

    skipped: int
    """Rows whose file was there already."""

    failed: int

    seconds: float
    """Of sound that this run made."""

    clipped: int
    """Rows that got louder than full scale somewhere; those samples are cut to it."""

    failures: list[dict[str, str]]
    """Id and reason of each row that failed."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def codec_for(
    source: RowSource, spec: str | None, *, vocoder: str | None = None, device: str = "cpu"
) -> Codec:
    """The codec that speaks a set's acoustic tokens: the named one, or the one that made them.

    Raises:
        DataMismatch: if it is another codec, has too few levels, or cannot be loaded here.
    """
    source.require_columns("acoustic")
    tokens = source.provenance.require_tokens("acoustic", where=source.where)
    try:
        codec = load_codec(
            spec or tokens.name, levels=tokens.levels, device=device, vocoder=vocoder
        )
    except DataMismatch as error:
        if spec is not None or isinstance(error, UnusableVocoder):
            raise
        raise DataMismatch(
            f"{source.where} was made with the codec {tokens.name}, which cannot be loaded here "
            f"({error}): say where it is with --codec"
        ) from None
    codec.spec.require_same(tokens, ours=f"the codec {codec.name}", theirs=source.where)
    return codec


def vocode_to_folder(
    codec: Codec,
    source: RowSource,
    folder: Path,
    *,
    sound_format: SoundFormat = "wav",
    shard: Shard | None = None,
    force: bool = False,
    advance: Advance = lambda rows: None,
) -> VocodeResult:
    """Write one file a row, named after its id, and a `manifest.jsonl` of them.

    Files appear whole or not at all. Rows whose file was made of the same tokens by the same codec
    are skipped unless `force`; files that are not ours are not overwritten unless `force`.

    Raises:
        StageFailure: if the source is cut short or the folder cannot be written to; what was made
            until then stays.
    """
    try:
        manifest = Manifest(folder)
    except OSError as error:
        raise cannot_write(folder, error) from None
    part = f"{shard.index}/{shard.count}" if shard else ""
    run = _Run(codec, source, FailureLog(folder / FAILURES_NAME, part=part), advance)
    seen: set[str] = set()
    try:
        for row in run.well(_batches(source, shard)):
            if row["id"] in seen:
                run.fail(row, REPEATED_ID)
                continue
            seen.add(row["id"])
            fingerprint = _fingerprint(row, codec, sound_format)
            if not force and manifest.done(row["id"], fingerprint):
                run.skip()
                continue
            name = manifest.name_for(row["id"], f".{sound_format}")
            if not force and not manifest.is_ours(name) and (folder / name).exists():
                run.fail(row, f"{folder / name} is there and not from vocode: --force overwrites")
                continue
            samples = run.decode(row)
            if samples is None:
                continue
            with atomic_path(folder / name) as temporary:
                _write_sound(temporary, samples, codec.sample_rate, sound_format)
                manifest.add(
                    SoundFile(
                        id=row["id"],
                        file=name,
                        samples=samples.shape[1],
                        sample_rate=codec.sample_rate,
                        fingerprint=fingerprint,
                    )
                )
    finally:
        manifest.save()
        run.log.save()
    return run.result(str(folder))


def vocode_to_stream(
    codec: Codec,
    source: RowSource,
    sink: BinaryIO,
    *,
    raw: bool = False,
    advance: Advance = lambda rows: None,
) -> VocodeResult:
    """Write the rows' sound one after another, each as soon as its tokens are there.

    Raises:
        StageFailure: if the source is cut short.
    """
    run = _Run(codec, source, FailureLog(None), advance)
    stream = SoundStream(sink, sample_rate=codec.sample_rate, channels=codec.channels, raw=raw)
    for row in run.well(source.batches(COLUMNS)):
        samples = run.decode(row)
        if samples is not None:
            stream.write(samples)
    return run.result("-")


class _Run:
    """The rows of a run, and the counts that come of them."""

    def __init__(self, codec: Codec, source: RowSource, log: FailureLog, advance: Advance) -> None:
        self.log = log
        self._codec, self._source, self._advance = codec, source, advance
        self._rows = self._skipped = 0
        self._samples = self._clipped = 0

    def well(self, batches: Iterator[list[Row]]) -> Iterator[Row]:
        """The rows that can be used; the others fail."""
        for batch in batches:
            for row in batch:
                problem = row_problem(row, self._source.provenance)
                if problem is None and row.get("acoustic") is None:
                    problem = "the row has no acoustic tokens"
                if problem is None:
                    yield row
                else:
                    self.fail(row, problem)

    def decode(self, row: Row) -> Samples | None:
        """A row's sound, or None if it failed."""
        try:
            samples = decode_codes(self._codec, row["acoustic"])
        except RowFailure as failure:
            self.fail(row, str(failure))
            return None
        self._rows += 1
        self._samples += samples.shape[1]
        self._clipped += bool(np.abs(samples).max(initial=0.0) > 1.0)
        self._advance(1)
        return samples

    def skip(self) -> None:
        self._skipped += 1
        self._advance(1)

    def fail(self, row: Row, reason: str) -> None:
        self.log.add(str(row.get("id") or ""), reason)
        self._advance(1)

    def result(self, output: str) -> VocodeResult:
        return VocodeResult(
            output=output,
            rows=self._rows,
            skipped=self._skipped,
            failed=self.log.count,
            seconds=round(self._samples / self._codec.sample_rate, 3),
            clipped=self._clipped,
            failures=self.log.lines,
        )


def _batches(source: RowSource, shard: Shard | None) -> Iterator[list[Row]]:
    if shard is None:
        yield from source.batches(COLUMNS)
        return
    units = source.work_units(shard, 1)
    if units is None:
        raise DataMismatch("--shard splits files: it cannot split a stream on standard input")
    for unit in units:
        yield from unit.batches()


def _fingerprint(row: Row, codec: Codec, sound_format: SoundFormat) -> str:
    codes: npt.NDArray[np.uint16] = row["acoustic"]
    digest = hashlib.sha256(np.ascontiguousarray(codes, dtype="<u2").tobytes()).hexdigest()
    return hash_json([__version__, codec.decoder_fingerprint, sound_format, codes.shape, digest])


def _write_sound(path: Path, samples: Samples, sample_rate: int, sound_format: SoundFormat) -> None:
    """Write `[C, N]` as 16-bit PCM; the temporary's name says nothing of the format."""
    import soundfile

    clipped = np.clip(samples.T, -1.0, 1.0)  # [N, C]
    # By way of memory: libsndfile has no word for a full disk, the system has.
    sound = io.BytesIO()
    soundfile.write(sound, clipped, sample_rate, format=sound_format.upper(), subtype="PCM_16")
    path.write_bytes(sound.getbuffer())
