"""Manifests: TSV, CSV or JSON-lines files that list a corpus, whatever they call their columns."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.errors import DataMismatch, RowFailure
from stages.shards.writer import atomic_path

Line = tuple[str, str | None, str | None, str | None]
"""Id, audio, speaker and text of an utterance, in a manifest that is written."""

MANIFEST_SUFFIXES = frozenset({".tsv", ".csv", ".jsonl", ".ndjson"})

# Names in use by fairseq, ESPnet, NeMo, Kaldi, Common Voice and Hugging Face; the first wins.
COLUMN_NAMES = {
    "id": ("id", "utt_id", "utterance_id", "uttid", "utt", "key", "sample_id", "segment_id"),
    "audio": (
        "audio", "audio_path", "audio_filepath", "audio_file", "path", "file", "file_path",
        "filepath", "file_name", "filename", "wav", "wav_path", "wav_file", "flac", "wavpath",
    ),
    "speaker": ("speaker", "speaker_id", "spk", "spk_id", "spkid", "speaker_name", "client_id"),
    "text": ("text", "transcript", "transcription", "sentence", "normalized_text", "raw_text"),
}  # fmt: skip

_SEGMENT_STARTS = ("start", "start_time", "begin", "segment_start")


@dataclass(frozen=True, kw_only=True)
class ManifestLine:
    """One utterance, as a manifest describes it."""

    where: str
    """Manifest and line, for messages."""

    id: str | None
    """None where the manifest has no column of ids."""

    audio: str | None
    """As written, so relative to the manifest; None where the cell is empty."""

    speaker: str | None
    text: str | None


def read_manifest(path: Path) -> list[ManifestLine]:
    """Read a manifest whole.

    Raises:
        DataMismatch: if it lists nothing, has no audio column, or a line is malformed or describes
            a segment of a file.
    """
    try:
        # `newline=""` leaves line ends to the csv module; a BOM is Excel's signature.
        with path.open(encoding="utf-8-sig", newline="") as file:
            is_json = path.suffix.lower() in {".jsonl", ".ndjson"}
            records = list(_json_records(path, file) if is_json else table_records(path, file))
    except UnicodeDecodeError:
        raise DataMismatch(f"{path} is not UTF-8 text: save the manifest as UTF-8") from None
    except OSError as error:
        raise DataMismatch(f"{path} cannot be read: {error.strerror}") from None
    if not records:
        raise DataMismatch(f"{path} lists no utterances: every line after its header is one")
    present = {name for _, record in records for name in record}
    columns = {
        meaning: next((name for name in names if name in present), None)
        for meaning, names in COLUMN_NAMES.items()
    }
    if columns["audio"] is None:
        raise DataMismatch(
            f"{path} has no column of audio files among {', '.join(sorted(present))}: call it "
            "`audio`"
        )
    return [_read_line(path, number, record, columns) for number, record in records]


def _read_line(
    path: Path, number: int, record: dict[str, Any], columns: dict[str, str | None]
) -> ManifestLine:
    where = f"{path} line {number}"
    cells: dict[str, str | None] = {}
    for meaning, column in columns.items():
        value = record.get(column) if column else None
        if isinstance(value, dict):  # Hugging Face writes {"path": ..., "sampling_rate": ...}
            value = value.get("path")
        if isinstance(value, bool | list):
            raise DataMismatch(f"{where} has {json.dumps(value)} as its {column}: write a text")
        if isinstance(value, float) and math.isnan(value):  # pandas' way to leave a cell empty
            value = None
        cells[meaning] = str(value).strip() or None if value is not None else None
        try:
            (cells[meaning] or "").encode()
        except UnicodeEncodeError:  # JSON can escape what UTF-8 cannot hold
            raise DataMismatch(
                f"{where} has half a surrogate pair in its {column}: write whole characters"
            ) from None
    if columns["id"] and cells["id"] is None:
        raise DataMismatch(f"{where} has no {columns['id']}: every utterance needs one")
    _refuse_segment(where, record)
    return ManifestLine(where=where, **cells)


def _refuse_segment(where: str, record: dict[str, Any]) -> None:
    """Whole files are read, so a line that begins within one would stand for all of it."""
    for name in ("offset", *_SEGMENT_STARTS):
        value = str(record.get(name) or 0).strip() or "0"
        try:
            start = float(value)
        except ValueError:  # an offset is nothing else; a `start` may be a date
            start = math.nan if name == "offset" else 0.0
        if start != 0:
            raise DataMismatch(
                f"{where} starts at {name} {value} of its file: only whole files are read, so cut "
                "it to a file of its own first"
            )


def _json_records(path: Path, file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # too long a number, too deep a nesting
            reason = getattr(error, "msg", error)
            raise DataMismatch(f"{path} line {number} is not JSON ({reason})") from None
        if not isinstance(record, dict):
            raise DataMismatch(f"{path} line {number} is not a JSON object like {{'audio': ...}}")
        yield number, {str(name).strip().lower(): value for name, value in record.items()}


def table_records(path: Path, file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a CSV or TSV file, which was opened with `newline=""`, with their line numbers.

    Raises:
        DataMismatch: if a line is malformed.
    """
    if path.suffix.lower() == ".tsv":
        # Transcripts hold quotation marks that quote nothing.
        reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        # Strict, or a quotation mark left open takes all that follows.
        reader = csv.reader(file, strict=True)
    began = 1
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        for name in header:
            if name and header.count(name) > 1:
                raise DataMismatch(f"{path} has two columns called {name}: keep one")
        began = reader.line_num + 1
        for cells in reader:
            line, began = began, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(header):
                raise DataMismatch(
                    f"{path} line {line} has {len(cells)} cells under a header of "
                    f"{len(header)} columns"
                )
            yield line, dict(zip(header, cells, strict=False))
    except csv.Error as error:
        raise DataMismatch(f"{path} line {began} cannot be read: {error}") from None


def write_manifest(
    path: Path,
    utterances: Iterable[Mapping[str, Any]],
    describe: Callable[[Mapping[str, Any]], Line],
) -> list[tuple[str, str]]:
    """Write a TSV manifest, whole or not at all.

    Args:
        path: of the manifest, its name ending in `.tsv`.
        utterances: as `find_utterances` gives them.
        describe: from one of them to its line; white space in a text becomes single blanks. Those
            for which it raises RowFailure are left out.

    Returns:
        Ids and reasons of those left out.

    Raises:
        DataMismatch: if an id, path or speaker holds what parts the cells of a line.
        StageFailure: if it cannot be written.
    """
    failures = []
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write("id\taudio\tspeaker\ttext\n")
        for utterance in utterances:
            try:
                name, audio, speaker, text = describe(utterance)
            except RowFailure as failure:
                failures.append((utterance["id"], str(failure)))
                continue
            cells = (name, audio or "", speaker or "", " ".join((text or "").split()))
            if any(mark in cell for cell in cells for mark in "\t\n\r"):
                raise DataMismatch(
                    f"{name!r} cannot be a line of {path}: there is a tab or a line's end in its "
                    "id, path or speaker"
                )
            file.write("\t".join(cells) + "\n")
    return failures
