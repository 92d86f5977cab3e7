"""Teaching a network to move frames to where their units sound as the recording does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.assets import MINI, model_folder
from stages.errors import DataMismatch
from stages.semantic.speaking import SpokenSums
from stages.semantic.unit_search.config import save_unit_network
from stages.semantic.unit_search.refiner import FARTHEST, Refiner, RefinerConfig, load_refiner
from stages.semantic.unit_search.unit_to_mel import load_speaker_of
from stages.semantic.whisper_ear import SAMPLE_RATE
from stages.training.seeds import derive_seed
from stages.training.settings import TrainingSettings, overlay
from stages.training.speech import SpeechBatch
from stages.training.task import MODEL
from stages.training.tasks.heard_task import HeardTask
from stages.training.tasks.same_network import require_same_network
from stages.training.tasks.spoken_units import load_spoken_units

_HALF_ROUNDING = 1e-3
"""By which a centroid that a k-means keeps in half precision may be further out."""


@dataclass(frozen=True, kw_only=True)
class RefinerRecipe:
    """The fields of `recipe`."""

    kmeans: str = ""
    """The units: a folder that `fit-kmeans` wrote, or `mini`."""

    encoder: str = ""
    """The teacher: `whisper:FOLDER`, a Whisper in CTranslate2's format."""

    unit_to_mel: str = MINI
    """What speaks the points: the folder of a unit-to-mel model, or `mini`."""

    encoder_fingerprint: str = ""
    """SHA-256 hex of the teacher's weights; always filled in anew, so that no run resumes on
    another."""

    kmeans_fingerprint: str = ""
    """Of the units; likewise."""

    unit_to_mel_fingerprint: str = ""
    """Likewise."""

    hearing_weight: float = 10.0
    """Of what the teacher hears in what is spoken, against the log-mel frames themselves."""

    noise_width: float = 0.7
    """Of the uniform noise on each number, in place of the rounding (Ballé et al. 2017): about a
    cell's, 0.7 for 4,096 units of 8 numbers, 0.5 for 65,536."""

    rounded: float = 0.5
    """Part of the rows that are rounded instead, with gradients as if they were not."""

    vary_speed: bool = True
    """Whether batches are played at 9/10, 1 and 11/10 of their speed by turns (Ko et al. 2015)."""

    def __post_init__(self) -> None:
        if self.hearing_weight < 0 or self.noise_width < 0 or not 0 <= self.rounded <= 1:
            raise DataMismatch(
                "recipe.hearing_weight and recipe.noise_width must be at least 0, and "
                "recipe.rounded from 0 to 1"
            )


class RefinerTask(HeardTask):
    """Points that say what was said, as a teacher hears it."""

    network: Refiner

    def __init__(self, settings: TrainingSettings, **inputs: Any) -> None:
        """Build the network; `inputs` are `SpeechTask`'s, without the sample rate.

        Raises:
            DataMismatch: if no teacher or no k-means is named, they or what speaks are none, or do
                not fit each other, windows are longer than the teacher hears, or the k-means' units
                are not of a bottleneck.
        """
        recipe = overlay(RefinerRecipe(), settings.recipe, where="recipe", prefix="recipe.")
        units = load_spoken_units(asdict(recipe), settings, device=inputs["device"])
        widest = float(units.centroids.abs().max())
        if widest > FARTHEST + _HALF_ROUNDING:
            raise DataMismatch(
                f"a refiner moves frames between -1 and 1, {FARTHEST:.3g} at the most, and the "
                f"k-means {recipe.kmeans} has centroids as far out as {widest:.3g}: use one of a "
                "bottleneck"
            )
        speaker, speaks, file = load_speaker_of(
            model_folder(recipe.unit_to_mel, "unit-to-mel"), units.kmeans.encoder_fingerprint
        )
        settings = settings.with_recipe(
            **units.fingerprints, unit_to_mel_fingerprint=file.fingerprint
        )
        self.config = RefinerConfig.from_json(
            {**units.shape, **settings.network}, where="the settings' network"
        )
        for config in (speaks, self.config):
            units.require_shape(config)
        super().__init__(settings, sample_rate=SAMPLE_RATE, **inputs)
        self._units, self._recipe, self._spoken_by = units, recipe, file.fingerprint
        self._speaker = speaker.requires_grad_(False).to(self.device)
        torch.manual_seed(derive_seed(settings.seed, "weights"))
        self.network = self.config.build().to(self.device)
        self.players = {MODEL: self.network}

    def sums(self, network: Refiner, batch: SpeechBatch, *, varied: bool) -> SpokenSums:
        samples, lengths, generator = self.arrive_varied(
            batch, speed=varied and self._recipe.vary_speed
        )
        points, counts, recorded = self._units.heard(samples, lengths)
        said = recorded.said(self.config.stack * points.shape[1])
        moved = network(points, counts, said, recorded.voice, self._speaker)
        if varied:
            rows = torch.rand(len(points), 1, 1, generator=generator) < self._recipe.rounded
            noise = self._recipe.noise_width * (torch.rand(points.shape, generator=generator) - 0.5)
            rounding = (self._units.rounded(moved) - moved).detach()
            moved = moved + torch.where(rows.to(moved.device), rounding, noise.to(moved.device))
        else:
            moved = self._units.rounded(moved)
        return self._speaker.loss(
            moved,
            counts,
            recorded,
            ear=self._units.ear,
            hearing_weight=self._recipe.hearing_weight,
        )

    def initialise(self, folder: Path) -> None:
        network, config, _ = load_refiner(folder)
        require_same_network(config, self.config, folder=folder)
        self.network.load_state_dict(network.state_dict())

    def export(self, folder: Path, weights: Mapping[str, Tensor], extra: dict[str, Any]) -> None:
        save_unit_network(
            folder,
            config=self.config,
            weights=weights,
            kmeans=self._units.kmeans,
            extra={**extra, "unit_to_mel": self._spoken_by},
        )
