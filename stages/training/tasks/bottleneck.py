"""Teaching a semantic encoder to keep what Whisper hears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.errors import DataMismatch
from stages.semantic.bottleneck import BottleneckConfig, load_bottleneck, save_bottleneck
from stages.semantic.speaking import SpokenSums
from stages.semantic.spoken_bottleneck import SpokenBottleneck
from stages.training.seeds import derive_seed
from stages.training.settings import TrainingSettings, overlay
from stages.training.speech import SpeechBatch
from stages.training.task import MODEL
from stages.training.tasks.heard_task import HeardTask, load_teacher
from stages.training.tasks.same_network import require_same_network


@dataclass(frozen=True, kw_only=True)
class BottleneckRecipe:
    """The fields of `recipe`."""

    encoder: str = ""
    """The teacher: `whisper:FOLDER`, a Whisper in CTranslate2's format."""

    encoder_fingerprint: str = ""
    """SHA-256 hex of its weights; always filled in anew, so that no run resumes on another."""

    hearing_weight: float = 2.0
    """Of what the teacher hears against the log-mel frames themselves; 0 is an autoencoder."""

    vary_speed: bool = True
    """Whether batches are played at 9/10, 1 and 11/10 of their speed by turns (Ko et al. 2015):
    other voices, and other tempi."""

    def __post_init__(self) -> None:
        if self.hearing_weight < 0:
            raise DataMismatch("recipe.hearing_weight must be at least 0")


class BottleneckTask(HeardTask):
    """Log-mel frames again, from few and noisy numbers, as Whisper would hear them."""

    draws_to_validate = True

    def __init__(self, settings: TrainingSettings, **inputs: Any) -> None:
        """Build the network; `inputs` are `SpeechTask`'s, without the sample rate.

        Raises:
            DataMismatch: if no teacher is named or it is none, or windows are longer than it hears.
        """
        recipe = overlay(BottleneckRecipe(), settings.recipe, where="recipe", prefix="recipe.")
        ear, fingerprint = load_teacher(
            recipe.encoder, max_seconds=settings.data.max_seconds, vary_speed=recipe.vary_speed
        )
        settings = settings.with_recipe(encoder_fingerprint=fingerprint)
        self.config = BottleneckConfig.from_json(settings.network, where="the settings' network")
        super().__init__(settings, sample_rate=self.config.sample_rate, **inputs)
        self._ear = ear.to(self.device)
        self._recipe = recipe
        torch.manual_seed(derive_seed(settings.seed, "weights"))
        self.network = SpokenBottleneck(self.config, mels=ear.mels).to(self.device)
        self.players = {MODEL: self.network}

    def sums(self, network: SpokenBottleneck, batch: SpeechBatch, *, varied: bool) -> SpokenSums:
        samples, lengths, generator = self.arrive_varied(
            batch, speed=varied and self._recipe.vary_speed
        )
        return network.loss(
            samples,
            lengths,
            ear=self._ear,
            hearing_weight=self._recipe.hearing_weight,
            generator=generator,
        )

    def initialise(self, folder: Path) -> None:
        network, _ = load_bottleneck(folder)
        require_same_network(network.config, self.config, folder=folder)
        # What only training needs is not in a model folder: it starts anew.
        self.network.load_state_dict({**self.network.state_dict(), **network.state_dict()})

    def export(self, folder: Path, weights: Mapping[str, Tensor], extra: dict[str, Any]) -> None:
        save_bottleneck(folder, config=self.config, weights=weights, extra=extra)
