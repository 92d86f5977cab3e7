"""What the tasks on audio share: windows to the device, warnings, validation batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from stages.training.loading import Unread, batches_from
from stages.training.settings import TrainingSettings
from stages.training.speech import SpeechBatch, SpeechSet, SpeechWindows, validation_batches
from stages.training.task import Task


class SpeechTask(Task[SpeechBatch]):
    """A model that learns from audio alone."""

    draws_to_validate: bool = False
    """Whether validation draws masks or noise: each row then goes alone, so that its score does not
    hang on `micro_batch_seconds`."""

    def __init__(
        self,
        settings: TrainingSettings,
        *,
        speech: SpeechSet,
        valid: SpeechSet | None,
        sample_rate: int,
        device: torch.device,
        warn: Callable[[str], None],
    ) -> None:
        self.settings, self.device = settings, device
        self.data = SpeechWindows(speech, settings, sample_rate)
        self.data_fingerprint = speech.fingerprint
        self._speech, self._valid, self._sample_rate, self._warn = speech, valid, sample_rate, warn
        self._valid_batches: list[SpeechBatch] | None = None
        self._warned: set[str] = set()

    def arrive(self, batch: SpeechBatch) -> tuple[Tensor, Tensor, torch.Generator]:
        """Samples and lengths on the device, and the batch's own generator (on the CPU)."""
        for problem in batch.problems:
            if problem not in self._warned:
                self._warned.add(problem)
                self._warn(f"left out: {problem}")
        return (
            batch.samples.to(self.device, non_blocking=True),
            batch.lengths.to(self.device, non_blocking=True),
            torch.Generator().manual_seed(batch.seed),
        )

    @property
    def seconds_of_speech(self) -> float:
        """Of the whole training set."""
        return float(self._speech.seconds.sum())

    def first_batches(self) -> Iterator[SpeechBatch]:
        """The batches of the first step and on, without end, the same in every process.

        Raises:
            StageFailure: if no data can be read.
        """
        # Not `self.data`, whose cache of files would go to every worker.
        data = SpeechWindows(self._speech, self.settings, self._sample_rate)
        for step in batches_from(data, start=0, rank=0, world=1, workers=0, warn=self._warn):
            yield from step

    def valid_batches(self, seconds: float) -> list[SpeechBatch]:
        """The validation set's batches, read once and kept; none without such a set."""
        if self._valid is None:
            return []
        if self._valid_batches is None:
            self._valid_batches = validation_batches(
                self._valid,
                self._sample_rate,
                examples=self.settings.valid_examples,
                seconds=seconds,
                budget_seconds=0.0 if self.draws_to_validate else self.settings.micro_batch_seconds,
            )
            if isinstance(self._valid_batches, Unread):
                self._warn(
                    "nothing of the validation data could be read; the first: "
                    f"{self._valid_batches.problems[0]}"
                )
        return self._valid_batches
