"""Teaching a semantic encoder to keep what Whisper hears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.functional import resample

from stages.errors import DataMismatch
from stages.semantic.bottleneck import BottleneckConfig, load_bottleneck, save_bottleneck
from stages.semantic.encoders.whisper import PREFIX
from stages.semantic.spoken_bottleneck import BottleneckSums, SpokenBottleneck
from stages.semantic.whisper_ear import HEARD_SECONDS, load_ear
from stages.shards.provenance import hash_file
from stages.training.seeds import derive_seed
from stages.training.settings import TrainingSettings, overlay
from stages.training.speech import SpeechBatch
from stages.training.task import MODEL, StepOutput
from stages.training.tasks.means import Means
from stages.training.tasks.same_network import require_same_network
from stages.training.tasks.speech_task import SpeechTask

VALIDATION_SECONDS = 20.0
SPEEDS = ((9, 10), (1, 1), (11, 10))


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


class BottleneckTask(SpeechTask):
    """Log-mel frames again, from few and noisy numbers, as Whisper would hear them."""

    def __init__(self, settings: TrainingSettings, **inputs: Any) -> None:
        """Build the network; `inputs` are `SpeechTask`'s, without the sample rate.

        Raises:
            DataMismatch: if no teacher is named or it is none, or windows are longer than it hears.
        """
        recipe = overlay(BottleneckRecipe(), settings.recipe, where="recipe", prefix="recipe.")
        if not recipe.encoder.startswith(PREFIX):
            raise DataMismatch(
                "name the Whisper that is to hear the words: --encoder whisper:FOLDER"
            )
        _require_heard(settings.data.max_seconds, vary_speed=recipe.vary_speed)
        folder = Path(recipe.encoder.removeprefix(PREFIX))
        ear = load_ear(folder)
        settings = settings.with_recipe(encoder_fingerprint=hash_file(folder / "model.bin"))
        self.config = BottleneckConfig.from_json(settings.network, where="the settings' network")
        super().__init__(settings, sample_rate=self.config.sample_rate, **inputs)
        self._ear = ear.to(self.device)
        self._recipe = recipe
        torch.manual_seed(derive_seed(settings.seed, "weights"))
        self.network = SpokenBottleneck(self.config, mels=ear.mels).to(self.device)
        self.players = {MODEL: self.network}

    def _sums(
        self, network: SpokenBottleneck, batch: SpeechBatch, *, varied: bool
    ) -> BottleneckSums:
        samples, lengths, generator = self.arrive(batch)
        if varied:
            over, under = SPEEDS[int(torch.randint(len(SPEEDS), (), generator=generator))]
            samples = resample(samples, over, under)
            lengths = (lengths * under // over).clamp(min=1, max=samples.shape[1])
        return network.loss(
            samples,
            lengths,
            ear=self._ear,
            hearing_weight=self._recipe.hearing_weight,
            generator=generator,
        )

    def loss(self, player: str, batch: SpeechBatch, step: int) -> StepOutput:
        del player, step
        sums = self._sums(self.network, batch, varied=self._recipe.vary_speed)
        parts = {
            name: torch.stack((part, sums.frames.to(part.dtype)))
            for name, part in (("mel", sums.mel), ("heard", sums.heard))
        }
        return StepOutput(loss=sums.loss, weight=sums.frames, parts=parts)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """The losses on speech as it is, under the same noise each time."""
        assert isinstance(model, SpokenBottleneck)
        means = Means()
        for batch in self.valid_batches(VALIDATION_SECONDS):
            sums = self._sums(model, batch, varied=False)
            for name in ("loss", "mel", "heard"):
                means.add(name, getattr(sums, name) / sums.frames, sums.frames)
        return means.summary()

    def initialise(self, folder: Path) -> None:
        network, _ = load_bottleneck(folder)
        require_same_network(network.config, self.config, folder=folder)
        # What only training needs is not in a model folder: it starts anew.
        self.network.load_state_dict({**self.network.state_dict(), **network.state_dict()})

    def export(self, folder: Path, weights: Mapping[str, Tensor], extra: dict[str, Any]) -> None:
        save_bottleneck(folder, config=self.config, weights=weights, extra=extra)


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
