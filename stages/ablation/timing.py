"""How long decoding took, kept beside what it made, so that a rerun still knows."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stages.evaluation.statistics import Estimate, ratio_estimate
from stages.shards.writer import atomic_path
from stages.soundstorm.decoder import Decoder
from stages.soundstorm.decoding import DecodeOptions, DecodeRequest
from stages.soundstorm.model import SoundStormModel
from stages.soundstorm.prompt import Prompt

TIMES_NAME = "times.json"


@dataclass(frozen=True, kw_only=True)
class BatchTime:
    """What one batch took; a batch is one utterance unless `batch_seconds` says otherwise."""

    seconds: float
    """Wall time, from tokens on the CPU to tokens on the CPU."""

    audio: float
    """Seconds of sound generated, without prompts."""


class Warmth:
    """Whether the model has run before: its first batch pays for what later ones find ready."""

    def __init__(self) -> None:
        self.warm = False


class TimedDecoder(Decoder):
    """A decoder that notes how long each of its batches took."""

    def __init__(
        self,
        model: SoundStormModel,
        options: DecodeOptions,
        *,
        where: str,
        prompt: Prompt | None,
        batch_seconds: float,
        warmth: Warmth,
    ) -> None:
        """
        Args:
            model: see `Decoder`, also for what is not named here.
            options: how to decode.
            where: the model's folder, for messages.
            prompt: what every row starts from, if anything.
            batch_seconds: 0 times each row alone.
            warmth: shared by the decoders of one model.
        """
        super().__init__(model, options, where=where, prompt=prompt, batch_seconds=batch_seconds)
        self._warmth = warmth
        self._rate = model.acoustic.frame_rate
        self.times: list[BatchTime] = []

    def _decode(self, requests: Sequence[DecodeRequest]) -> list[Tensor]:
        if not self._warmth.warm:
            super()._decode(requests[:1])
            self._warmth.warm = True
        start = time.perf_counter()
        results = super()._decode(requests)  # copied to the CPU: a GPU has finished
        seconds = time.perf_counter() - start
        frames = sum(len(request.semantic) - len(request.prompt) for request in requests)
        self.times.append(BatchTime(seconds=seconds, audio=float(frames / self._rate)))
        return results


class Times:
    """The times of one setting, by part, in `times.json` beside the parts."""

    def __init__(self, folder: Path) -> None:
        """Read what an earlier run measured; what cannot be read is measured again."""
        self._path = folder / TIMES_NAME
        self._parts: dict[str, dict[str, Any]] = {}
        try:
            self._parts = json.loads(self._path.read_text())["parts"]
        except (OSError, ValueError, KeyError, TypeError):
            return

    def has(self, part: str, fingerprint: str) -> bool:
        """Whether the part with these contents was timed."""
        return self._parts.get(part, {}).get("fingerprint") == fingerprint

    def put(
        self,
        part: str,
        fingerprint: str,
        batches: Sequence[BatchTime],
        machine: Mapping[str, Any],
    ) -> None:
        """Keep a part's times.

        Raises:
            StageFailure: if the folder cannot be written to.
        """
        self._parts[part] = {
            "fingerprint": fingerprint,
            "machine": dict(machine),
            "batches": [{"seconds": one.seconds, "audio": one.audio} for one in batches],
        }
        with atomic_path(self._path) as path:
            path.write_text(json.dumps({"parts": self._parts}, indent=1, sort_keys=True) + "\n")

    @property
    def machines(self) -> list[dict[str, Any]]:
        """Those that the parts were timed on, each once."""
        found: list[dict[str, Any]] = []
        for part in self._parts.values():
            if part["machine"] not in found:
                found.append(part["machine"])
        return found

    def seconds_per_second(self) -> Estimate | None:
        """Seconds of decoding for a second of audio, with an interval over batches."""
        return ratio_estimate(self._column("seconds"), self._column("audio"))

    def ratio_to(self, base: Times) -> float | None:
        """How many times as long as another setting's the same batches took: the median of them.

        A batch that the machine held up moves a median less than it moves a sum.
        """
        ours, theirs = self._column("seconds"), base._column("seconds")
        return float(np.median(ours / theirs)) if len(ours) == len(theirs) > 0 else None

    def _column(self, name: str) -> NDArray[np.float64]:
        """A number of each batch, by part, `[batches]`."""
        parts = [part for _, part in sorted(self._parts.items())]
        return np.array([batch[name] for part in parts for batch in part["batches"]])
