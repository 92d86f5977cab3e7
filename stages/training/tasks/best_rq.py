"""Pretraining BEST-RQ, the semantic encoder that needs audio alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.semantic.best_rq import BestRQ, BestRQConfig, load_best_rq, save_best_rq
from stages.training.seeds import derive_seed
from stages.training.settings import TrainingSettings
from stages.training.speech import SpeechBatch
from stages.training.task import MODEL, StepOutput
from stages.training.tasks.means import Means
from stages.training.tasks.same_network import require_same_network
from stages.training.tasks.speech_task import SpeechTask

VALIDATION_SECONDS = 20.0


class BestRQTask(SpeechTask):
    """Masked prediction of random codes."""

    draws_to_validate = True

    def __init__(self, settings: TrainingSettings, **inputs: Any) -> None:
        """Build the network; `inputs` are `SpeechTask`'s, without the sample rate."""
        self.config = BestRQConfig.from_json(settings.network, where="the settings' network")
        super().__init__(settings, sample_rate=self.config.sample_rate, **inputs)
        torch.manual_seed(derive_seed(settings.seed, "weights"))
        self.network = BestRQ(self.config).to(self.device)
        self.players = {MODEL: self.network}

    def loss(self, player: str, batch: SpeechBatch, step: int) -> StepOutput:
        del player, step
        sums = self.network.loss(*self.arrive(batch))
        frames = sums.frames.sum()
        accuracy = torch.stack((sums.correct.sum(), frames)).float()
        return StepOutput(loss=sums.loss.sum(), weight=frames, parts={"accuracy": accuracy})

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss and accuracy on spans that are the same each time."""
        assert isinstance(model, BestRQ)
        means = Means()
        for batch in self.valid_batches(VALIDATION_SECONDS):
            sums = model.loss(*self.arrive(batch))
            frames = sums.frames.sum()
            means.add("loss", sums.mean, frames)
            means.add("accuracy", sums.correct.sum() / frames.clamp_min(1), frames)
        return means.summary()

    def initialise(self, folder: Path) -> None:
        network, _ = load_best_rq(folder)
        require_same_network(network.config, self.config, folder=folder)
        self.network.load_state_dict(network.state_dict())

    def export(self, folder: Path, weights: Mapping[str, Tensor], extra: dict[str, Any]) -> None:
        save_best_rq(folder, config=self.config, weights=weights, extra=extra)
