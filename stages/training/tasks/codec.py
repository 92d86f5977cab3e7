"""Making the mel codec: codes by k-means before the first step, then a decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.codec.mel.config import MelCodecConfig
from stages.codec.mel.convnext import frame_mask
from stages.codec.mel.model import load_mel_codec, save_codec
from stages.codec.mel.network import MelCodec
from stages.training.seeds import derive_seed
from stages.training.settings import TrainingSettings
from stages.training.speech import SpeechBatch
from stages.training.task import MODEL, StepOutput
from stages.training.tasks.means import Means, weighted
from stages.training.tasks.same_network import require_same_network
from stages.training.tasks.speech_task import SpeechTask

VALIDATION_SECONDS = 10.0

START_FRAMES = 384
"""For each entry of a codebook, before the first step, if there are so many."""


class CodecTask(SpeechTask):
    """Log-mel frames through a residual quantiser and back."""

    exact_weights = ("quantizer.",)

    def __init__(self, settings: TrainingSettings, **inputs: Any) -> None:
        """Build the network; `inputs` are `SpeechTask`'s, without the sample rate."""
        self.config = MelCodecConfig.from_json(settings.network, where="the settings' network")
        super().__init__(settings, sample_rate=self.config.sample_rate, **inputs)
        torch.manual_seed(derive_seed(settings.seed, "weights"))
        self.network = MelCodec(self.config).to(self.device)
        self.players = {MODEL: self.network}

    def prepare(self) -> None:
        """Start the codes on many more frames than a batch has, the same in every process."""
        if self.network.quantizer.started:
            return
        there_are = math.ceil(self.seconds_of_speech * self.config.frame_rate)
        wanted = min(START_FRAMES * self.config.codebook_size, there_are)
        found: list[Tensor] = []
        for batch in self.first_batches():
            samples, lengths, generator = self.arrive(batch)
            found.append(self.network.frames_to_quantise(samples, lengths))
            if sum(map(len, found)) >= wanted:
                break
        self.network.quantizer.start(torch.cat(found)[:wanted], generator)

    def loss(self, player: str, batch: SpeechBatch, step: int) -> StepOutput:
        del player, step
        samples, lengths, _ = self.arrive(batch)
        loss, numbers = self.network.loss(samples, lengths)
        frames = numbers["frames"]
        parts = {
            name: weighted(value.to(self.device), frames)
            for name, value in numbers.items()
            if name != "frames"
        }
        return StepOutput(loss=loss * frames, weight=frames, parts=parts)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Mel distance at several numbers of levels, and the share of codes in use."""
        assert isinstance(model, MelCodec)
        means = Means()
        for batch in self.valid_batches(VALIDATION_SECONDS):
            samples, lengths, _ = self.arrive(batch)
            loss, numbers = model.loss(samples, lengths)
            means.add("loss", loss, numbers["frames"])
            means.add("codes_in_use", numbers["codes_in_use"], numbers["frames"].cpu())
            mel, frames = model.log_mel(samples, lengths)  # [B, T, M]
            mask = frame_mask(frames, mel.shape[1])
            for levels in self._some_levels():
                made, _ = model.through(samples, lengths, levels)
                distance = ((made - mel).abs() * mask).sum() / (mask.sum() * mel.shape[2])
                means.add(f"mel_distance/levels_{levels:02d}", distance, mask.sum())
        return means.summary()

    def _some_levels(self) -> list[int]:
        """1, 2, 4, ... and all of them."""
        powers = [1 << power for power in range(8) if 1 << power < self.config.levels]
        return [*powers, self.config.levels]

    def initialise(self, folder: Path) -> None:
        network, _ = load_mel_codec(folder)
        require_same_network(network.config, self.config, folder=folder)
        self.network.load_state_dict(network.state_dict())

    def export(self, folder: Path, weights: Mapping[str, Tensor], extra: dict[str, Any]) -> None:
        save_codec(folder, config=self.config, weights=weights, extra=extra)
