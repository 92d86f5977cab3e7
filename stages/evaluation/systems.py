"""What is compared: recordings, codecs, generated tokens, and folders of sound from anywhere."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
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
from stages.shards.provenance import Provenance, hash_file
from stages.shards.reader import is_token_set, open_rows
from stages.shards.rows import Row, row_problem
from stages.shards.source import RowSource

RECORDINGS = "recordings"
CODEC = "codec"
DECODED = "decoded"


Player = Callable[[Any], NDArray[np.float32]]
"""From what a system's `parcel` holds to `[N]` float32 at 16 kHz, or a RowFailure."""


class System(ABC):
    """One way in which the utterances of a set sound."""

    name: str

    ids: Collection[str]

    ambiguous: Mapping[str, Sequence[str]] = {}
    """Files by the id that several could be, none of which is played."""

    play: Player
    """Made so that it can travel to a worker process."""

    provenance: Provenance = Provenance()
    """The stages that made its tokens; none for sound files."""

    @abstractmethod
    def key(self, row_id: str) -> list[Any]:
        """JSON values that decide how an utterance sounds: equal keys, equal samples."""

    @abstractmethod
    def parcel(self, row_id: str) -> Any:
        """All that `play` needs of an utterance; it can travel, too."""

    def load(self, row_id: str) -> NDArray[np.float32]:
        """An utterance as `[N]` float32 at 16 kHz.

        Raises:
            RowFailure: if it cannot be had.
        """
        return self.play(self.parcel(row_id))

    def prompt_seconds(self, row_id: str) -> float | None:
        """How long its given beginning is; None where the system does not say."""
        del row_id
        return None


class SoundFiles(System):
    """Recordings, or sound that anything made, one file an utterance."""

    def __init__(
        self,
        name: str,
        paths: Mapping[str, str | None],
        ambiguous: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.name = name
        self.ids = paths.keys()
        self.ambiguous = ambiguous or {}
        self.play = _play_file
        self._paths = paths

    def key(self, row_id: str) -> list[Any]:
        path = self._paths[row_id]
        try:
            return ["file", hash_file(path) if path else None]
        except OSError:
            return ["file", None]  # to play it will say what is wrong with it

    def parcel(self, row_id: str) -> str | None:
        return self._paths[row_id]


class CodecOfFiles(SoundFiles):
    """Recordings after a codec's encoder and decoder."""

    def __init__(self, name: str, paths: Mapping[str, str | None], codec: PortableCodec) -> None:
        super().__init__(name, paths)
        self.play = _ThroughCodec(codec)
        self._codec = codec.codec

    def key(self, row_id: str) -> list[Any]:
        codec = self._codec
        return [
            *super().key(row_id), codec.fingerprint, codec.levels, codec.decoder_fingerprint
        ]  # fmt: skip


class SoundOfTokens(System):
    """Acoustic tokens, turned into sound when they are wanted."""

    def __init__(
        self, name: str, rows: Mapping[str, Row], source: RowSource, codec: PortableCodec
    ) -> None:
        """
        Args:
            name: of the system.
            rows: by id, with `acoustic` and, from `decode`, `prompt_frames`.
            source: where the rows are from, which says what their tokens are.
            codec: that speaks them.
        """
        self.name = name
        self.ids = rows.keys()
        self.provenance = source.provenance
        self.play = _Vocoder(codec, source.provenance)
        self._rows = rows
        self._codec = codec.codec

    def key(self, row_id: str) -> list[Any]:
        codes = self._rows[row_id].get("acoustic")
        if codes is None:
            return ["tokens", None]
        content = np.ascontiguousarray(codes, dtype="<u2").tobytes()
        digest = hashlib.sha256(content).hexdigest()
        return ["tokens", digest, list(codes.shape), self._codec.decoder_fingerprint]

    def parcel(self, row_id: str) -> Row:
        return self._rows[row_id]

    def prompt_seconds(self, row_id: str) -> float | None:
        frames = self._rows[row_id].get("prompt_frames")
        return None if frames is None else float(frames / self._codec.frame_rate)


class PortableCodec:
    """A codec that travels to another process as its name, and is loaded there again."""

    def __init__(self, codec: Codec, *, vocoder: str | None = None, device: str = "cpu") -> None:
        self.codec = codec
        self._recipe = (codec.name, codec.levels, vocoder, device)

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_portable, self._recipe


@cache
def _load_portable(name: str, levels: int, vocoder: str | None, device: str) -> PortableCodec:
    codec = load_codec(name, levels=levels, device=device, vocoder=vocoder)
    return PortableCodec(codec, vocoder=vocoder, device=device)


def _play_file(path: str | None) -> NDArray[np.float32]:
    samples: NDArray[np.float32]
    (samples,) = read_audio(path, sample_rate=SAMPLE_RATE).samples
    return samples


class _ThroughCodec:
    """Plays a file as a codec renders it."""

    def __init__(self, codec: PortableCodec) -> None:
        self._portable = codec

    def __call__(self, path: str | None) -> NDArray[np.float32]:
        codec = self._portable.codec
        waveform = read_audio(path, sample_rate=codec.sample_rate, channels=codec.channels)
        return _decode(codec, encode_waveform(codec, waveform).codes)


class _Vocoder:
    """Plays the tokens of a row."""

    def __init__(self, codec: PortableCodec, provenance: Provenance) -> None:
        self._portable = codec
        self._provenance = provenance

    def __call__(self, row: Row) -> NDArray[np.float32]:
        problem = row_problem(row, self._provenance)
        if problem is None and row.get("acoustic") is None:
            problem = "the row has no acoustic tokens"
        if problem is not None:
            raise RowFailure(problem)
        return _decode(self._portable.codec, row["acoustic"])


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
            portable = PortableCodec(model, vocoder=vocoder, device=device)
            return SoundOfTokens(name, rows_by_id(source), source, portable)
    return SoundFiles(name, *_sound_files(path))


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
        portable = PortableCodec(model, vocoder=vocoder, device=device)
        systems.append(SoundOfTokens(_maker(source), rows, source, portable))
    elif codec is not None and recordings is not None:
        model = load_codec(codec, device=device, vocoder=vocoder)
        portable = PortableCodec(model, vocoder=vocoder, device=device)
        systems.append(CodecOfFiles(CODEC, paths, portable))
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
    wanted = (
        "id", "audio", "speaker", "text", "num_samples", "sample_rate", "acoustic", "prompt_frames"
    )  # fmt: skip
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


def _sound_files(path: str) -> tuple[dict[str, str | None], dict[str, list[str]]]:
    """Files by the id of their utterance: as a manifest says, or by their names.

    Returns:
        The files, and by each name that several have, those.
    """
    from stages.audio.sources import find_utterances
    from stages.codec.manifest import read_manifest

    folder = Path(path)
    entries = read_manifest(folder) if folder.is_dir() else []
    if entries:
        return {entry.id: str(folder / entry.file) for entry in entries}, {}
    found = {row["id"]: row["audio"] for row in find_utterances([path])}
    # A tool that flattens folders keeps stems only; they serve where they are not ambiguous. Of
    # x.wav and x.flac, too, which have their suffixes in their ids, neither is x.
    named: dict[str, list[str]] = {}
    for row_id, audio in found.items():
        if audio is not None:
            for name in {Path(audio).stem, row_id.removesuffix(Path(audio).suffix)}:
                named.setdefault(name, []).append(audio)
    unique: dict[str, str | None]
    unique = {name: files[0] for name, files in named.items() if len(files) == 1}
    several = {name: files for name, files in named.items() if len(files) > 1}
    return unique | found, {name: several[name] for name in several.keys() - found.keys()}
