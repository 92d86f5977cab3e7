"""The one interface of every measure of speech, and what it is given to score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import DataMismatch, RowFailure
from stages.evaluation.curves import Curve

SAMPLE_RATE = 16_000
"""Hz. Recognisers, DNSMOS and speaker encoders all hear 16 kHz, so everything is judged there."""

SHORTEST = 0.4
"""Seconds after the prompt below which neither quality nor a voice can be judged."""

Scores = dict[str, Any]
"""What a measure found out about one clip: JSON values by name."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a table: how utterances' scores become a system's."""

    name: str
    """Its key in the scores of an utterance and in reports."""

    title: str
    """Its heading, with the unit."""

    higher_is_better: bool

    scale: float = 1.0
    """What the number is multiplied by in a table, 100 for per cent."""

    digits: int = 2
    """Decimals in a table."""

    ratio: tuple[str, str] | None = None
    """For a rate over the whole set (errors by words), the two scores whose sums are divided; a
    plain mean over utterances otherwise."""

    in_table: bool = True
    """Whether it is in tables, or only in the JSON and Parquet files."""

    reference: str | None = None
    """What an error rate is held against: `text`, or a `transcript` of the recording."""


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """What is known about an utterance, whichever system speaks it."""

    id: str

    text: str | None = None
    """What was said."""

    speaker: str | None = None

    seconds: float | None = None
    """How long its recording is; None where nothing says."""


class Clip:
    """One utterance as one system speaks it; its sound is loaded when a measure first asks."""

    def __init__(
        self,
        utterance: Utterance,
        load: Callable[[], NDArray[np.float32]],
        *,
        prompt_seconds: float = 0.0,
        load_recording: Callable[[], NDArray[np.float32]] | None = None,
    ) -> None:
        """
        Args:
            utterance: which one.
            load: gives `[N]` float32 at `SAMPLE_RATE`, or raises RowFailure.
            prompt_seconds: how long the given, not generated, beginning is.
            load_recording: the same for the recording to compare with, if there is another one.
        """
        self.utterance = utterance
        self.prompt_seconds = prompt_seconds
        self._load = load
        self._load_recording = load_recording

    @cached_property
    def samples(self) -> NDArray[np.float32]:
        """The whole clip, `[N]`."""
        return self._load()

    @cached_property
    def recording(self) -> NDArray[np.float32] | None:
        """The recording that the clip should sound like, `[N']`; None for recordings."""
        return self._load_recording() if self._load_recording else None

    @property
    def has_recording(self) -> bool:
        return self._load_recording is not None

    @property
    def prompt(self) -> NDArray[np.float32]:
        """The given beginning, `[P]`; empty where there is none."""
        return self.samples[: round(self.prompt_seconds * SAMPLE_RATE)]

    @property
    def generated(self) -> NDArray[np.float32]:
        """What follows the prompt, `[N - P]`.

        Raises:
            RowFailure: if it is too short to judge.
        """
        rest = self.samples[round(self.prompt_seconds * SAMPLE_RATE) :]
        if len(rest) < SHORTEST * SAMPLE_RATE:
            raise RowFailure(
                f"{len(rest) / SAMPLE_RATE:.2f} s remain after its prompt of "
                f"{self.prompt_seconds:g} s: {SHORTEST} s are needed"
            )
        return rest


class Measure(ABC):
    """Something that judges clips; its models load at the first clip, not before.

    One that has judged nothing yet can travel to a worker process.
    """

    name: str
    """What reports call it, unlike that of any other measure of a run."""

    metrics: tuple[Metric, ...]

    settings: dict[str, Any]
    """JSON values that decide a score, with the SHA-256 of its models: part of the cache's key."""

    packages: tuple[str, ...] = ()
    """Modules of the `eval` extra that it imports."""

    uses_text: bool = False
    """Whether a score depends on the utterance's text."""

    uses_prompt: bool = False
    """Whether a score depends on where the prompt ends."""

    uses_recording: bool = False
    """Whether a score depends on the recording."""

    @property
    def kind(self) -> str:
        """What its scores are kept under in the cache, whatever reports call it."""
        return self.name

    def applies(self, clip: Clip) -> bool:
        """Whether it has what it needs to judge this clip (its text, its prompt, ...)."""
        del clip
        return True

    @abstractmethod
    def score(self, clip: Clip) -> Scores:
        """Judge one clip.

        Raises:
            RowFailure: if this clip cannot be judged.
        """

    def compare(
        self, scores: Mapping[str, Scores], utterances: Mapping[str, Utterance]
    ) -> dict[str, Scores]:
        """Turn one system's scores by id into what is reported, where clips meet each other."""
        del utterances
        return dict(scores)

    def curve(self, scores: Mapping[str, Scores]) -> Curve | None:
        """How one system's scores go on with time, from what `compare` gave; None if they don't."""
        del scores
        return None

    def require_packages(self) -> None:
        """Refuse to begin without the extra.

        Raises:
            DataMismatch: naming what to install.
        """
        for package in self.packages:
            if find_spec(package) is None:
                raise DataMismatch(missing_extra(self.name, package))


def missing_extra(measure: str, package: str) -> str:
    """The sentence about a package that is not installed."""
    return (
        f"the measure {measure} needs {package}, which is not installed: "
        "pip install 'soundstorm[eval]'"
    )


@contextmanager
def third_party(measure: str) -> Iterator[None]:
    """Import and load other people's packages: their warnings are not for our users.

    Raises:
        DataMismatch: if one is missing.
    """
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        raise DataMismatch(missing_extra(measure, error.name or str(error))) from None


def metrics_of(measures: Sequence[Measure]) -> list[Metric]:
    """The metrics of some measures, in their order."""
    return [metric for measure in measures for metric in measure.metrics]
