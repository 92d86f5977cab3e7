"""Training the source-filter vocoder: to tell the pitch from mel frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.audio.features import LogMel
from stages.codec.mel.config import SourceFilterConfig
from stages.codec.mel.convnext import frame_mask
from stages.codec.mel.model import load_source_filter, save_source_filter
from stages.codec.mel.pitch import POINTS, PitchNetwork
from stages.errors import DataMismatch
from stages.training.seeds import derive_seed
from stages.training.settings import TrainingSettings, overlay
from stages.training.speech import SpeechBatch
from stages.training.task import MODEL, StepOutput
from stages.training.tasks.codec_frames import open_codec, require_same_frames
from stages.training.tasks.means import Means, weighted
from stages.training.tasks.same_network import require_same_network
from stages.training.tasks.speech_task import SpeechTask

VALIDATION_SECONDS = 10.0

GROSS = 0.1
"""Natural logarithm of a ratio of pitches from which on one is no longer about the other."""


@dataclass(frozen=True, kw_only=True)
class SourceFilterRecipe:
    """Whose frames it learns on; the fields of `recipe`."""

    codec: str = ""
    """Folder of the codec whose frames it hears; empty for recordings' frames."""

    codec_fingerprint: str = ""
    """SHA-256 hex of that codec; always filled in anew, so that no run resumes on another."""

    fewer_levels: float = 0.4
    """Share of batches whose frames are of some of the codec's levels, at least a third."""

    def __post_init__(self) -> None:
        if not 0 <= self.fewer_levels <= 1:
            raise DataMismatch("the recipe's fewer_levels is a share, from 0 to 1")


class SourceFilterTask(SpeechTask):
    """Mel frames to pitch; the sound itself needs no training."""

    def __init__(self, settings: TrainingSettings, **inputs: Any) -> None:
        """Build the network; `inputs` are `SpeechTask`'s, with pitch, without the sample rate.

        Raises:
            DataMismatch: if the codec does not exist or has other mel frames.
        """
        self.recipe = source_filter_recipe(settings)
        self._codec, settings, network = open_codec(self.recipe.codec, settings)
        self.config = SourceFilterConfig.from_json(network, where="the settings' network")
        super().__init__(settings, sample_rate=self.config.sample_rate, **inputs)
        if self._codec is not None:
            require_same_frames(
                self._codec,
                self.config.geometry,
                name=self.recipe.codec,
                learns="source-filter",
            )
            self._codec.to(self.device)
        torch.manual_seed(derive_seed(settings.seed, "weights"))
        self.network = PitchNetwork(self.config).to(self.device)
        self.players = {MODEL: self.network}
        self._mel = LogMel(self.config.log_mel).to(self.device)

    def loss(self, player: str, batch: SpeechBatch, step: int) -> StepOutput:
        del player, step
        levels = None
        if self._codec is not None:
            levels = self._some_levels(torch.Generator().manual_seed(batch.seed))
        logits, voicing, truth = self._tell(self.network, batch, levels)
        points = torch.tensor(float(len(truth)), device=self.device)
        choice, voiced = self.network.losses(logits, voicing, truth)
        parts = {
            "loss": weighted(choice + voiced, points),
            "choice": weighted(choice, points),
            "voicing": weighted(voiced, points),
        }
        return StepOutput(loss=(choice + voiced) * points, weight=points, parts=parts)

    def _some_levels(self, generator: torch.Generator) -> int:
        """All of the codec's levels, or fewer."""
        assert self._codec is not None
        Q = self._codec.config.levels
        if torch.rand((), generator=generator) >= self.recipe.fewer_levels:
            return Q
        return int(torch.randint(-(-Q // 3), Q + 1, (), generator=generator))

    def _tell(
        self, network: PitchNetwork, batch: SpeechBatch, levels: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits `[N, K]` and voicing `[N]` of a batch's real points, and the truth `[N]` Hz."""
        samples, lengths, _ = self.arrive(batch)
        assert batch.pitch is not None
        with torch.no_grad():
            if self._codec is None:
                mel, frames = self._mel(samples, lengths)
            else:
                mel, frames = self._codec.through(samples, lengths, levels)
        T = mel.shape[1]
        mask = frame_mask(frames, T)
        logits, voicing = network(mel, mask)
        truth = torch.zeros(len(mel), POINTS * T)
        known = min(truth.shape[1], batch.pitch.shape[1])
        truth[:, :known] = batch.pitch[:, :known]
        real = (mask[..., 0] > 0).repeat_interleave(POINTS, dim=1)  # [B, P]
        return logits[real], voicing[real], truth.to(self.device)[real]

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """The loss; the share of voiced points whose pitch is quite another, the mean deviation of
        the others (of the natural logarithm), and the share of points wrongly voiced or not."""
        assert isinstance(model, PitchNetwork)
        means = Means()
        for batch in self.valid_batches(VALIDATION_SECONDS):
            logits, voicing, truth = self._tell(model, batch, None)
            points, voiced = torch.tensor(float(len(truth))), truth > 0
            choice, cross = model.losses(logits, voicing, truth)
            means.add("loss", choice + cross, points)
            means.add("voicing_errors", ((voicing > 0) != voiced).float().mean(), points)
            if voiced.any():
                off = (model.pitch(logits[voiced]) / truth[voiced]).log().abs()
                gross = off > GROSS
                means.add("gross_errors", gross.float().mean(), voiced.sum().cpu())
                means.add("deviation", off[~gross].mean().nan_to_num(0.0), (~gross).sum().cpu())
        return means.summary()

    def initialise(self, folder: Path) -> None:
        model, _ = load_source_filter(folder)
        require_same_network(model.config, self.config, folder=folder)
        self.network.load_state_dict(model.pitch.state_dict())

    def export(self, folder: Path, weights: Mapping[str, Tensor], extra: dict[str, Any]) -> None:
        save_source_filter(folder, config=self.config, weights=weights, extra=extra)


def source_filter_recipe(settings: TrainingSettings) -> SourceFilterRecipe:
    """The recipe of a run's settings."""
    return overlay(SourceFilterRecipe(), settings.recipe, where="recipe", prefix="recipe.")


def source_filter_config(settings: TrainingSettings) -> SourceFilterConfig:
    """The network of a run's settings: of the codec's frames, where there is a codec.

    Raises:
        DataMismatch: if the codec does not exist, or the settings are no such network.
    """
    _, _, network = open_codec(source_filter_recipe(settings).codec, settings)
    return SourceFilterConfig.from_json(network, where="the settings' network")
