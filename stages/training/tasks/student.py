"""Teaching a small semantic encoder another one's tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.errors import DataMismatch
from stages.semantic.student import Student, StudentConfig, StudentSums, load_student, save_student
from stages.training.seeds import derive_seed
from stages.training.settings import TrainingSettings, overlay
from stages.training.speech import SpeechBatch, SpeechSet
from stages.training.task import MODEL, StepOutput
from stages.training.tasks.means import Means
from stages.training.tasks.same_network import require_same_network
from stages.training.tasks.speech_task import SpeechTask
from stages.training.tasks.token_models import centroids_of

VALIDATION_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class StudentRecipe:
    """The fields of `recipe`."""

    kmeans: str = ""
    """Folder of the teacher's k-means, or `mini`: the head starts from its centroids. Empty for a
    random start."""


class StudentTask(SpeechTask):
    """Every frame's token, from audio with some spans masked."""

    def __init__(
        self,
        settings: TrainingSettings,
        *,
        speech: SpeechSet,
        valid: SpeechSet | None,
        **inputs: Any,
    ) -> None:
        """Build the network; `inputs` are `SpeechTask`'s, without the sample rate.

        Raises:
            DataMismatch: if the sets' tokens are of different models or of another rate than the
                network's, or the k-means is not theirs.
        """
        teacher = speech.labels
        if teacher is None:
            raise DataMismatch("a student needs a training set with semantic tokens")
        if valid is not None:
            if valid.labels is None:
                raise DataMismatch("a student needs a validation set with semantic tokens")
            teacher.spec.require_same(
                valid.labels.spec, ours="the training set", theirs="the validation set"
            )
        self.config = StudentConfig.from_json(
            {"tokens": teacher.spec.codebook_size, **settings.network},
            where="the settings' network",
        )
        if self.config.tokens != teacher.spec.codebook_size:
            raise DataMismatch(
                f"the training set has {teacher.spec.codebook_size} semantic tokens and the "
                f"network {self.config.tokens}: leave network.tokens to the set"
            )
        if self.config.frame_rate != teacher.spec.frame_rate:
            raise DataMismatch(
                f"the training set has {teacher.spec.frame_rate} semantic tokens a second and the "
                f"network {self.config.frame_rate}: set network.stack to "
                f"{float(Fraction(100) / teacher.spec.frame_rate):g} or tokenize with --rate"
            )
        super().__init__(
            settings, speech=speech, valid=valid, sample_rate=self.config.sample_rate, **inputs
        )
        torch.manual_seed(derive_seed(settings.seed, "weights"))
        network = Student(self.config)
        recipe = overlay(StudentRecipe(), settings.recipe, where="recipe", prefix="recipe.")
        if recipe.kmeans:
            centroids = centroids_of(recipe.kmeans, teacher.spec)
            generator = torch.Generator().manual_seed(derive_seed(settings.seed, "head"))
            network.start_head(centroids, generator)
        self.network = network.to(self.device)
        self.players = {MODEL: self.network}

    def _sums(self, network: Student, batch: SpeechBatch, *, masked: bool) -> StudentSums:
        samples, lengths, generator = self.arrive(batch)
        assert batch.labels is not None
        labels = batch.labels.to(self.device, non_blocking=True)
        return network.loss(samples, lengths, labels, generator if masked else None)

    def loss(self, player: str, batch: SpeechBatch, step: int) -> StepOutput:
        del player, step
        sums = self._sums(self.network, batch, masked=True)
        accuracy = torch.stack((sums.correct, sums.frames)).float()
        return StepOutput(loss=sums.loss, weight=sums.frames, parts={"accuracy": accuracy})

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss and accuracy on speech without masks, as the encoder will get it."""
        assert isinstance(model, Student)
        means = Means()
        for batch in self.valid_batches(VALIDATION_SECONDS):
            sums = self._sums(model, batch, masked=False)
            count = sums.frames.clamp_min(1)
            means.add("loss", sums.loss / count, sums.frames)
            means.add("accuracy", sums.correct / count, sums.frames)
        return means.summary()

    def initialise(self, folder: Path) -> None:
        network, _ = load_student(folder)
        require_same_network(network.config, self.config, folder=folder)
        self.network.load_state_dict(network.state_dict())

    def export(self, folder: Path, weights: Mapping[str, Tensor], extra: dict[str, Any]) -> None:
        save_student(folder, config=self.config, weights=weights, extra=extra)
