"""What is compared: recordings, codecs, generated tokens, and folders of sound from anywhere."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.audio.reading import read_audio, resample
from stages.codec.base import Codec
from stages.codec.registry import load_codec
from stages.codec.single import decode_codes, encode_waveform
from stages.codec.vocoding import codec_for
from stages.errors import DataMismatch, RowFailure
from stages.evaluation.measure import SAMPLE_RATE
from stages.shards.provenance import hash_file
from stages.shards.reader import is_token_set, open_rows
from stages.shards.rows import Row, row_problem
from stages.shards.source import RowSource

RECORDINGS = "recordings"
CODEC = "codec"
DECODED = "decoded"


class System(ABC):
    """One way in which the utterances of a set sound."""

    name: str

    ids: Collection[str]

    @abstractmethod
    def key(self, row_id: str) -> list[Any]:
        """JSON values that decide how an utterance sounds: equal keys, equal samples."""

    @abstractmethod
    def load(self, row_id: str) -> NDArray[np.float32]:
        """An utterance as `[N]` float32 at 16 kHz.

        Raises:
            RowFailure: if it cannot be had.
        """

    def prompt_seconds(self, row_id: str) -> float | None:
        """How long its given beginning is; None where the system does not say."""
        del row_id
        return None


class SoundFiles(System):
    """Recordings, or sound that anything made, one file an utterance."""

    def __init__(self, name: str, paths: Mapping[str, str | None]) -> None:
        self.name = name
        self.ids = paths.keys()
        self._paths = paths

    def key(self, row_id: str) -> list[Any]:
        path = self._paths[row_id]
        try:
            return ["file", hash_file(path) if path else None]
        except OSError:
            return ["file", None]  # `load` will say what is wrong with it

    def load(self, row_id: str) -> NDArray[np.float32]:
        samples: NDArray[np.float32]
        (samples,) = read_audio(self._path(row_id), sample_rate=SAMPLE_RATE).samples
        return samples

    def _path(self, row_id: str) -> str:
        path = self._paths[row_id]
        if not path:
            raise RowFailure("the row names no audio file")
        return path


class CodecOfFiles(SoundFiles):
    """Recordings after a codec's encoder and decoder."""

    def __init__(self, name: str, paths: Mapping[str, str | None], codec: Codec) -> None:
        super().__init__(name, paths)
        self._codec = codec

    def key(self, row_id: str) -> list[Any]:
        codec = self._codec
        return [
            *super().key(row_id), codec.fingerprint, codec.levels, codec.decoder_fingerprint
        ]  # fmt: skip

    def load(self, row_id: str) -> NDArray[np.float32]:
        waveform = read_audio(
            self._path(row_id), sample_rate=self._codec.sample_rate, channels=self._codec.channels
        )
        return _decode(self._codec, encode_waveform(self._codec, waveform).codes)


class SoundOfTokens(System):
    """Acoustic tokens, turned into sound when they are wanted."""

    def __init__(self, name: str, rows: Mapping[str, Row], source: RowSource, codec: Codec) -> None:
        """
        Args:
            name: of the system.
            rows: by id, with `acoustic` and, from `decode`, `prompt_frames`.
            source: where the rows are from, which says what their tokens are.
            codec: that speaks them.
        """
        self.name = name
        self.ids = rows.keys()
        self._rows = rows
        self._provenance = source.provenance
        self._codec = codec

    def key(self, row_id: str) -> list[Any]:
        codes = self._rows[row_id].get("acoustic")
        if codes is None:
            return ["tokens", None]
        content = np.ascontiguousarray(codes, dtype="<u2").tobytes()
        digest = hashlib.sha256(content).hexdigest()
        return ["tokens", digest, list(codes.shape), self._codec.decoder_fingerprint]

    def load(self, row_id: str) -> NDArray[np.float32]:
        row = self._rows[row_id]
        problem = row_problem(row, self._provenance)
        if problem is None and row.get("acoustic") is None:
            problem = "the row has no acoustic tokens"
        if problem is not None:
            raise RowFailure(problem)
        return _decode(self._codec, row["acoustic"])

    def prompt_seconds(self, row_id: str) -> float | None:
        frames = self._rows[row_id].get("prompt_frames")
        return None if frames is None else float(frames / self._codec.frame_rate)


def _decode(codec: Codec, codes: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Tokens `[T, Q]` to mono sound `[N]` at 16 kHz."""
    samples = decode_codes(codec, codes)  # [C, N]
    mono: NDArray[np.float32] = samples.mean(axis=0, dtype=np.float32)[:, None]  # [N, 1]
    if codec.sample_rate != SAMPLE_RATE:
        mono = resample(mono, codec.sample_rate, SAMPLE_RATE)
    return mono.reshape(-1)


def open_system(
    name: str,
    path: str,
    *,
    codec: str | None = None,
    vocoder: str | None = None,
    device: str = "cpu",
) -> System:
    """A generated system: token shards (vocoded here), or a folder or manifest of sound files.

    Args:
        name: what to call it.
        path: token shards, `-` for a stream of them, or sound: a folder that `vocode` wrote, or
            any whose files are named after the utterances.
        codec: of the tokens; by default the one they name.
        vocoder: for a codec of mel frames.
        device: where the codec runs.

    Raises:
        DataMismatch: if there is nothing usable.
    """
    if path == "-" or is_token_set(path):
        with open_rows(path) as source:
            model = codec_for(source, codec, vocoder=vocoder, device=device)
            return SoundOfTokens(name, rows_by_id(source), source, model)
    return SoundFiles(name, _sound_files(path))


def systems_of_input(
    source: RowSource,
    rows: Mapping[str, Row],
    *,
    codec: str | None = None,
    vocoder: str | None = None,
    device: str = "cpu",
) -> tuple[SoundFiles | None, list[System]]:
    """What a set of utterances says of itself: its recordings, and what its tokens sound like.

    Args:
        source: of the rows.
        rows: from `rows_by_id`.
        codec: of the tokens; by default the one they name. Without tokens, it is applied to the
            recordings.
        vocoder: for a codec of mel frames.
        device: where the codec runs.

    Returns:
        The recordings, if there are any, and all systems with the recordings first.
    """
    paths = {row_id: row.get("audio") for row_id, row in rows.items()}
    recordings = SoundFiles(RECORDINGS, paths) if any(paths.values()) else None
    systems: list[System] = [recordings] if recordings is not None else []
    if "acoustic" in source.schema.names:
        model = codec_for(source, codec, vocoder=vocoder, device=device)
        systems.append(SoundOfTokens(_maker(source), rows, source, model))
    elif codec is not None and recordings is not None:
        model = load_codec(codec, device=device, vocoder=vocoder)
        systems.append(CodecOfFiles(CODEC, paths, model))
    return recordings, systems


def _maker(source: RowSource) -> str:
    """Tokens that a model made are no reconstruction, and must not be called one."""
    for record in reversed(source.provenance.stages):
        if record.tokens is not None and record.tokens.kind == "acoustic":
            return DECODED if record.stage == "decode" else CODEC
    return CODEC


def rows_by_id(source: RowSource) -> dict[str, Row]:
    """The rows of a set that have an id, without the semantic tokens that nobody hears.

    Raises:
        DataMismatch: if two rows have one id.
    """
    wanted = ("id", "audio", "speaker", "text", "acoustic", "prompt_frames")
    rows: dict[str, Row] = {}
    for row in source.rows([name for name in wanted if name in source.schema.names]):
        if not row.get("id"):
            continue
        if row["id"] in rows:
            raise DataMismatch(
                f"{source.where} has two rows with the id {row['id']}: ids must be unique"
            )
        rows[row["id"]] = row
    return rows


def _sound_files(path: str) -> dict[str, str | None]:
    """Files by the id of their utterance: as a manifest says, or by their names."""
    from stages.audio.sources import find_utterances
    from stages.codec.manifest import read_manifest

    folder = Path(path)
    entries = read_manifest(folder) if folder.is_dir() else []
    if entries:
        return {entry.id: str(folder / entry.file) for entry in entries}
    found = {row["id"]: row["audio"] for row in find_utterances([path])}
    # A tool that flattens folders keeps stems only; they serve where they are not ambiguous.
    stems: dict[str, str | None] = {}
    for audio in found.values():
        stem = Path(audio or "").stem
        stems[stem] = None if stem in stems else audio
    return {stem: audio for stem, audio in stems.items() if audio} | found
