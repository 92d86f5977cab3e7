"""What the tasks share that speak windows of speech again, and learn from what a Whisper hears."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.functional import resample

from stages.errors import DataMismatch
from stages.semantic.encoders.whisper import teacher_folder
from stages.semantic.speaking import SpokenSums
from stages.semantic.whisper_ear import HEARD_SECONDS, WhisperEar, load_ear
from stages.shards.provenance import hash_file
from stages.training.speech import SpeechBatch
from stages.training.task import StepOutput
from stages.training.tasks.means import Means
from stages.training.tasks.speech_task import SpeechTask

VALIDATION_SECONDS = 20.0
SPEEDS = ((9, 10), (1, 1), (11, 10))


class HeardTask(SpeechTask):
    """A network that makes log-mel frames again, of few numbers or of units."""

    network: nn.Module

    @abstractmethod
    def sums(self, network: Any, batch: SpeechBatch, *, varied: bool) -> SpokenSums:
        """Speak a batch; `varied` as in training, else as it is."""

    def arrive_varied(
        self, batch: SpeechBatch, *, speed: bool
    ) -> tuple[Tensor, Tensor, torch.Generator]:
        """As `arrive`, and if their `speed` is to vary, played at one of `SPEEDS`."""
        samples, lengths, generator = self.arrive(batch)
        if speed:
            samples, lengths = vary_speed(samples, lengths, generator)
        return samples, lengths, generator

    def loss(self, player: str, batch: SpeechBatch, step: int) -> StepOutput:
        del player, step
        sums = self.sums(self.network, batch, varied=True)
        parts = {
            name: torch.stack((part, sums.frames.to(part.dtype)))
            for name, part in (("mel", sums.mel), ("heard", sums.heard))
        }
        return StepOutput(loss=sums.loss, weight=sums.frames, parts=parts)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """The losses on speech as it is, under the same noise each time."""
        means = Means()
        for batch in self.valid_batches(VALIDATION_SECONDS):
            sums = self.sums(model, batch, varied=False)
            for name in ("loss", "mel", "heard"):
                means.add(name, getattr(sums, name) / sums.frames, sums.frames)
        return means.summary()


def load_teacher(spec: str, *, max_seconds: float, vary_speed: bool) -> tuple[WhisperEar, str]:
    """The teacher, and the SHA-256 hex of its weights.

    Args:
        spec: `whisper:FOLDER`.
        max_seconds: of a window.
        vary_speed: whether windows are slowed down, too.

    Raises:
        DataMismatch: if it is no Whisper, or windows are longer than it hears.
    """
    folder = teacher_folder(
        spec, refusal="name the Whisper that is to hear the words: --encoder whisper:FOLDER"
    )
    _require_heard(max_seconds, vary_speed=vary_speed)
    return load_ear(folder), hash_file(folder / "model.bin")


def vary_speed(
    samples: Tensor, lengths: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A batch `[B, N]` and its lengths `[B]`, played at one of `SPEEDS`."""
    over, under = SPEEDS[int(torch.randint(len(SPEEDS), (), generator=generator))]
    samples = resample(samples, over, under)
    return samples, (lengths * under // over).clamp(min=1, max=samples.shape[1])


def _require_heard(max_seconds: float, *, vary_speed: bool) -> None:
    """Refuse windows that would last longer than Whisper hears, at the slowest of their speeds."""
    slowest = min(over / under for over, under in SPEEDS) if vary_speed else 1.0
    longest = HEARD_SECONDS * slowest
    if max_seconds > longest:
        varied = f", and recipe.vary_speed slows speech down to {slowest:g} of its speed"
        raise DataMismatch(
            f"data.max_seconds must be at most {longest:g}, not {max_seconds:g}: Whisper hears "
            f"{HEARD_SECONDS:g} s at once{varied if vary_speed else ''}"
        )
