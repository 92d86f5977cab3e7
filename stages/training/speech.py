"""Windows of audio files: read, resampled and cut in worker processes."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.audio.reading import MIN_SECONDS, audio_seconds, read_audio
from stages.errors import DataMismatch, RowFailure
from stages.semantic.student import NO_TOKEN
from stages.shards.provenance import hash_json
from stages.shards.source import RowSource
from stages.shards.spec import TokenSpec
from stages.training.loading import Unread
from stages.training.pitch_store import PitchStore
from stages.training.seeds import derive_seed
from stages.training.settings import TrainingSettings
from stages.training.windows import Window, WindowSampler, share

CACHED_SAMPLES = 1 << 28
"""Decoded samples that each worker keeps, 1 GiB: small corpora are decoded once."""

_PROBES = 16
"""Threads that ask files for their lengths; they mostly wait for the disk."""


@dataclass(frozen=True, kw_only=True)
class SpeechLabels:
    """Semantic tokens that a set's utterances have already, for a network to learn."""

    tokens: list[NDArray[np.uint16]]
    """`[T]` of each utterance."""

    spec: TokenSpec


@dataclass(frozen=True, kw_only=True)
class SpeechSet:
    """Audio files of known length."""

    paths: list[str]

    speakers: list[str | None]

    seconds: NDArray[np.float64]
    """`[N]`, only to choose windows by."""

    fingerprint: str
    """SHA-256 hex of ids and lengths, and of the model of the labels where there are."""

    labels: SpeechLabels | None = None

    pitch: PitchStore | None = None
    """Of the same utterances, for a network to learn."""


@dataclass(frozen=True, kw_only=True)
class SpeechBatch:
    """A ragged batch of windows, on the CPU."""

    samples: Tensor
    """`[B, N]` float32, 0 at padding."""

    lengths: Tensor
    """`[B]` int64."""

    seed: int
    """For whatever the network draws for this batch."""

    labels: Tensor | None = None
    """`[B, T]` int64, `NO_TOKEN` at padding, where the set has them."""

    pitch: Tensor | None = None
    """`[B, P]` float32, Hz, 0 at padding and where there is no voice, where the set has it."""

    problems: list[str] = field(default_factory=list)
    """Sentences on files that could not be read; their windows are left out."""


def find_speech(
    source: RowSource, warn: Callable[[str], None], *, labelled: bool = False
) -> SpeechSet:
    """List the audio of a source, with lengths: the rows' own, or what the files' headers say.

    Files that cannot be read or are too short are left out and counted in a warning.

    Args:
        source: rows that name audio.
        warn: takes a sentence for the user.
        labelled: whether the rows' semantic tokens are wanted, too.

    Raises:
        DataMismatch: if no file is left, or tokens are wanted and there are none.
    """
    source.require_columns("audio")
    known: tuple[str, ...] = ("id", "audio", "speaker", "num_samples", "sample_rate")
    spec = None
    if labelled:
        spec = source.provenance.require_tokens("semantic", where=source.where)
        source.require_columns("semantic")
        known = (*known, "semantic")
    rows = list(source.rows([name for name in known if name in source.schema.names]))
    with ThreadPoolExecutor(_PROBES) as threads:
        found = list(threads.map(_seconds, rows))
    usable = [(row, found_) for row, found_ in zip(rows, found, strict=True)
              if isinstance(found_, float)]  # fmt: skip
    problems = [str(item) for item in found if not isinstance(item, float)]
    if not usable:
        first = f"; the first: {problems[0]}" if problems else ""
        raise DataMismatch(f"{source.where} has no audio that can be read{first}")
    if problems:
        warn(f"{len(problems)} files of {source.where} are not used; the first: {problems[0]}")
    return SpeechSet(
        paths=[row["audio"] for row, _ in usable],
        speakers=[row.get("speaker") for row, _ in usable],
        seconds=np.array([seconds for _, seconds in usable]),
        fingerprint=hash_json(
            [[row["id"], seconds] for row, seconds in usable]
            + ([] if spec is None else [spec.to_json()])
        ),
        labels=None
        if spec is None
        else SpeechLabels(tokens=[_tokens(row["semantic"]) for row, _ in usable], spec=spec),
    )


def _tokens(value: Any) -> NDArray[np.uint16]:
    """A row's semantic tokens, `[T]`; none where it has null."""
    return np.empty(0, np.uint16) if value is None else np.array(value, np.uint16)


def _seconds(row: dict[str, Any]) -> float | str:
    """How long a row's audio is, or why it is of no use."""
    if not row["audio"]:
        return f"{row['id']} has no audio"
    if row.get("num_samples") and row.get("sample_rate"):
        seconds = float(row["num_samples"] / row["sample_rate"])
    else:
        try:
            seconds = audio_seconds(row["audio"])
        except RowFailure as failure:
            return str(failure)
    if seconds < MIN_SECONDS:
        return f"{row['audio']} lasts {seconds:.4f} s: at least {MIN_SECONDS} s is needed"
    return seconds


class SpeechReader:
    """Windows of a set as batches, with a cache of decoded files."""

    def __init__(self, speech: SpeechSet, sample_rate: int) -> None:
        self.speech, self.sample_rate = speech, sample_rate
        self.lengths = np.maximum(1, np.floor(speech.seconds * sample_rate)).astype(np.int64)
        self._cache: OrderedDict[int, NDArray[np.float32]] = OrderedDict()
        self._cached = 0
        self._label_hop = 1
        if speech.labels is not None:
            self._label_hop = _samples_of_label(speech.labels.spec, sample_rate)
        self._hop = math.lcm(self._label_hop, 1 if speech.pitch is None else speech.pitch.hop)

    def batch(self, windows: Sequence[Window], *, seed: int) -> SpeechBatch:
        """Read windows into one batch, which is empty if none of their files can be read."""
        pieces, labels, pitch, problems = [], [], [], []
        for window in windows:
            try:
                samples = self._samples(window.example)
            except RowFailure as failure:
                problems.append(str(failure))
                continue
            # A header may promise a little more than there is.
            start = max(0, min(window.start, len(samples) - window.length))
            start -= start % self._hop  # so that a window's labels begin where it does
            labels.append(self._labels(window.example, start, window.length))
            if self.speech.pitch is not None:
                pitch.append(self.speech.pitch.slice(window.example, start, window.length))
            pieces.append(samples[start : start + window.length])
        return SpeechBatch(
            samples=_padded(pieces, 0.0),
            lengths=torch.tensor([len(piece) for piece in pieces], dtype=torch.int64),
            seed=seed,
            labels=None if self.speech.labels is None else _padded(labels, NO_TOKEN),
            pitch=None if self.speech.pitch is None else _padded(pitch, 0.0),
            problems=problems,
        )

    def _labels(self, example: int, start: int, length: int) -> NDArray[np.int64]:
        """The labels of a window, empty where the set has none."""
        if self.speech.labels is None:
            return np.empty(0, np.int64)
        first = start // self._label_hop
        tokens = self.speech.labels.tokens[example][first : first + -(-length // self._label_hop)]
        return tokens.astype(np.int64)

    def _samples(self, example: int) -> NDArray[np.float32]:
        """A whole file at the network's rate, `[N]`."""
        if example in self._cache:
            self._cache.move_to_end(example)
            return self._cache[example]
        wave = read_audio(self.speech.paths[example], sample_rate=self.sample_rate)
        samples: NDArray[np.float32] = wave.samples[0]
        self._cache[example] = samples
        self._cached += len(samples)
        while self._cached > CACHED_SAMPLES and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            self._cached -= len(dropped)
        return samples


def _padded(rows: Sequence[NDArray[Any]], padding: float) -> Tensor:
    """Rows of any lengths, `[B, N]`, of `padding`'s type."""
    batch = torch.full((len(rows), max(map(len, rows), default=0)), padding)
    for target, row in zip(batch, rows, strict=True):
        target[: len(row)] = torch.from_numpy(row)
    return batch


class SpeechWindows:
    """The training batches of each step."""

    def __init__(self, speech: SpeechSet, settings: TrainingSettings, sample_rate: int) -> None:
        self._reader = SpeechReader(speech, sample_rate)
        self._seed = settings.seed
        self._budget = max(1, int(settings.micro_batch_seconds * sample_rate))
        self._sampler = WindowSampler(
            self._reader.lengths,
            speech.speakers,
            units_per_second=sample_rate,
            batch_size=settings.batch_size,
            seed=settings.seed,
            settings=settings.data,
        )

    def micro_batches(self, step: int, rank: int, world: int) -> list[SpeechBatch]:
        parts = share(self._sampler.windows(step), rank=rank, world=world, budget=self._budget)
        return readable(
            self._reader.batch(part, seed=derive_seed(self._seed, "batch", step, rank, index))
            for index, part in enumerate(parts)
        )


def validation_batches(
    speech: SpeechSet, sample_rate: int, *, examples: int, seconds: float, budget_seconds: float
) -> list[SpeechBatch]:
    """The first `seconds` of the first utterances, each batch under the seed of its first row.

    What is drawn for a row of a larger batch hangs on the others; with a budget of 0 every row is
    alone, and what is drawn for it its own.
    """
    reader = SpeechReader(speech, sample_rate)
    longest = int(seconds * sample_rate)
    windows = [
        Window(example=example, start=0, length=min(int(length), longest), seed=example)
        for example, length in enumerate(reader.lengths[:examples])
    ]
    parts = share(windows, rank=0, world=1, budget=max(1, int(budget_seconds * sample_rate)))
    return readable(
        reader.batch(part, seed=derive_seed(0, "validation", part[0].seed)) for part in parts
    )


def _samples_of_label(spec: TokenSpec, sample_rate: int) -> int:
    """Samples that a label covers.

    Raises:
        DataMismatch: if they are no whole number.
    """
    samples = sample_rate / spec.frame_rate
    if samples.denominator != 1:
        raise DataMismatch(
            f"{spec.frame_rate} semantic tokens a second do not fit audio at {sample_rate} Hz: use "
            "a rate that divides it"
        )
    return int(samples)


def readable(batches: Iterable[SpeechBatch]) -> list[SpeechBatch]:
    """Batches that have a row; the problems of those that have none go with the first, or are all
    that is left."""
    kept: list[SpeechBatch] = []
    problems: list[str] = []
    for batch in batches:
        if len(batch.lengths):
            kept.append(batch)
        else:
            problems += batch.problems
    if not kept:
        return Unread(problems)
    kept[0].problems.extend(problems)
    return kept
