"""Training the vocoder: spectra first, then discriminators, at last on quantised frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.audio.features import LogMel
from stages.codec.mel.config import VocoderConfig
from stages.codec.mel.losses import (
    Balancer,
    SpectralLoss,
    adversarial_losses,
    build_discriminators,
    discriminator_loss,
)
from stages.codec.mel.model import load_vocoder, save_vocoder
from stages.codec.mel.vocoder import Vocoder
from stages.errors import DataMismatch
from stages.training.schedule import learning_rate
from stages.training.seeds import derive_seed
from stages.training.settings import TrainingSettings, overlay
from stages.training.speech import SpeechBatch
from stages.training.task import MODEL, StepOutput
from stages.training.tasks.codec_frames import open_codec, require_same_frames
from stages.training.tasks.means import Means, weighted
from stages.training.tasks.same_network import require_same_network
from stages.training.tasks.speech_task import SpeechTask

DISCRIMINATORS = "discriminators"
VALIDATION_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class VocoderRecipe:
    """When what is trained, and how much each loss counts; the fields of `recipe`."""

    codec: str = ""
    """Folder of the codec whose frames the vocoder ends on; empty for recordings' frames only."""

    codec_fingerprint: str = ""
    """SHA-256 hex of that codec; always filled in anew, so that no run resumes on another."""

    adversarial_from: int = 20_000
    """First step with discriminators."""

    quantised_from: int = 40_000
    """First step on frames that went through the codec, where there is one."""

    filters: int = 32
    """Channels of the discriminators."""

    mel: float = 2.0
    """Share of the log-mel distance in the gradient (EnCodec, section 3.4)."""

    magnitude: float = 1.0
    """Share of the spectral convergence."""

    adversarial: float = 3.0
    """Share of the discriminators' verdict."""

    features: float = 3.0
    """Share of the distance of the discriminators' feature maps."""

    def __post_init__(self) -> None:
        if min(self.adversarial_from, self.quantised_from) < 0 or self.filters < 1:
            raise DataMismatch("the recipe's steps must be at least 0 and its filters at least 1")
        if min(self.mel, self.magnitude, self.adversarial, self.features) < 0 or not self.mel:
            raise DataMismatch("the recipe's shares must not be negative, and mel's more than 0")


class VocoderTask(SpeechTask):
    """Mel frames to sound, in up to three phases."""

    surrogate = True  # the balancer's

    def __init__(self, settings: TrainingSettings, **inputs: Any) -> None:
        """Build the networks; `inputs` are `SpeechTask`'s, without the sample rate.

        Raises:
            DataMismatch: if the codec does not exist or has other mel frames.
        """
        recipe = overlay(VocoderRecipe(), settings.recipe, where="recipe", prefix="recipe.")
        self._codec, settings, network = open_codec(recipe.codec, settings)
        self.recipe = recipe
        self.config = VocoderConfig.from_json(network, where="the settings' network")
        super().__init__(settings, sample_rate=self.config.sample_rate, **inputs)
        if self._codec is not None:
            require_same_frames(
                self._codec, self.config.geometry, name=recipe.codec, learns="vocoder"
            )
            self._codec.to(self.device)
        torch.manual_seed(derive_seed(settings.seed, "weights"))
        self.network = Vocoder(self.config).to(self.device)
        self.discriminators = build_discriminators(filters=self.recipe.filters).to(self.device)
        self.players = {MODEL: self.network, DISCRIMINATORS: self.discriminators}
        self._mel = LogMel(self.config.log_mel).to(self.device)
        self._spectral = SpectralLoss(self.config.sample_rate).to(self.device)
        shares = {name: getattr(self.recipe, name)
                  for name in ("mel", "magnitude", "adversarial", "features")}  # fmt: skip
        self._balancer = Balancer(shares).to(self.device)

    def turns(self, step: int) -> Sequence[str]:
        if step < self.recipe.adversarial_from:
            return (MODEL,)
        return (DISCRIMINATORS, MODEL)

    def learning_rate(self, player: str, step: int) -> float:
        """The discriminators warm up when their time comes, then decay with the model."""
        rate = learning_rate(step, self.settings.optimiser)
        if player == DISCRIMINATORS:
            warmup = max(1, self.settings.optimiser.warmup_steps)
            rate *= min(1.0, (step - self.recipe.adversarial_from + 1) / warmup)
        return rate

    def loss(self, player: str, batch: SpeechBatch, step: int) -> StepOutput:
        samples, lengths, _ = self.arrive(batch)
        quantised = self._codec is not None and step >= self.recipe.quantised_from
        mel, frames = self._frames(samples, lengths, quantised)
        if player == DISCRIMINATORS:
            with torch.no_grad():
                made = self._sound(self.network, mel, frames, samples)
            return self._discriminators_loss(samples, made)
        made = self._sound(self.network, mel, frames, samples)
        losses = self._spectral(samples, made, lengths)
        if step >= self.recipe.adversarial_from:
            losses |= self._adversarial_losses(samples, made)
        rows = torch.tensor(float(len(samples)), device=self.device)
        parts = {name: weighted(value, rows) for name, value in losses.items()}
        parts["loss"] = parts["mel"]  # the one number that all phases have
        return StepOutput(loss=self._balancer(losses, made) * rows, weight=rows, parts=parts)

    def _frames(self, samples: Tensor, lengths: Tensor, quantised: bool) -> tuple[Tensor, Tensor]:
        """Log-mel frames `[B, T, M]`, of the recordings or as the codec gives them back."""
        if quantised and self._codec is not None:
            return self._codec.through(samples, lengths)
        mel, frames = self._mel(samples, lengths)
        return mel, frames

    @staticmethod
    def _sound(network: Vocoder, mel: Tensor, frames: Tensor, samples: Tensor) -> Tensor:
        """`[B, N]`, as long as the recordings: the last frame may go past their end."""
        made: Tensor = network(mel, frames)
        return made[:, : samples.shape[1]]

    def _discriminators_loss(self, samples: Tensor, made: Tensor) -> StepOutput:
        real_logits, _ = self.discriminators(samples[:, None])
        made_logits, _ = self.discriminators(made[:, None])
        loss = discriminator_loss(real_logits, made_logits)
        rows = torch.tensor(float(len(samples)), device=self.device)
        parts = {f"{DISCRIMINATORS}/loss": weighted(loss, rows)}
        return StepOutput(loss=loss * rows, weight=rows, parts=parts)

    def _adversarial_losses(self, samples: Tensor, made: Tensor) -> dict[str, Tensor]:
        self.discriminators.requires_grad_(False)  # only the vocoder learns from this
        try:
            with torch.no_grad():
                _, real_maps = self.discriminators(samples[:, None])
            logits, made_maps = self.discriminators(made[:, None])
            return adversarial_losses(logits, real_maps, made_maps)
        finally:
            self.discriminators.requires_grad_(True)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Spectral distances on recordings' frames, and on the codec's where there is one."""
        assert isinstance(model, Vocoder)
        means = Means()
        for batch in self.valid_batches(VALIDATION_SECONDS):
            samples, lengths, _ = self.arrive(batch)
            for quantised in (False, True) if self._codec is not None else (False,):
                mel, frames = self._frames(samples, lengths, quantised)
                made = self._sound(model, mel, frames, samples)
                suffix = "/quantised" if quantised else ""
                for name, value in self._spectral(samples, made, lengths).items():
                    means.add(name + suffix, value, lengths.sum())
        summary = means.summary()
        return {"loss": summary["mel"], **summary} if summary else {}

    def statistics(self, player: str) -> Sequence[Tensor]:
        return tuple(self._balancer.buffers()) if player == MODEL else ()

    def state(self) -> dict[str, Tensor]:
        return dict(self._balancer.state_dict())

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._balancer.load_state_dict(dict(state))

    def initialise(self, folder: Path) -> None:
        network, _ = load_vocoder(folder)
        require_same_network(network.config, self.config, folder=folder)
        self.network.load_state_dict(network.state_dict())

    def export(self, folder: Path, weights: Mapping[str, Tensor], extra: dict[str, Any]) -> None:
        save_vocoder(folder, config=self.config, weights=weights, extra=extra)
