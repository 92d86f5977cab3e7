"""Teaching a network to speak units, so that a search can hear what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.errors import DataMismatch
from stages.semantic.speaking import Speaker, SpokenSums
from stages.semantic.unit_search.config import save_unit_network
from stages.semantic.unit_search.unit_to_mel import UnitToMelConfig, load_unit_to_mel
from stages.semantic.whisper_ear import SAMPLE_RATE
from stages.training.seeds import derive_seed
from stages.training.settings import TrainingSettings, overlay
from stages.training.speech import SpeechBatch
from stages.training.task import MODEL
from stages.training.tasks.heard_task import HeardTask
from stages.training.tasks.same_network import require_same_network
from stages.training.tasks.spoken_units import load_spoken_units


@dataclass(frozen=True, kw_only=True)
class UnitToMelRecipe:
    """The fields of `recipe`."""

    kmeans: str = ""
    """The units: a folder that `fit-kmeans` wrote, or `mini`."""

    encoder: str = ""
    """The teacher: `whisper:FOLDER`, a Whisper in CTranslate2's format."""

    encoder_fingerprint: str = ""
    """SHA-256 hex of its weights; always filled in anew, so that no run resumes on another."""

    kmeans_fingerprint: str = ""
    """Of the units; likewise."""

    hearing_weight: float = 2.0
    """Of what the teacher hears in what is spoken, against the log-mel frames themselves."""

    strays: float = 0.5
    """Part of the rows whose units stray from the nearest ones, as those of a search do: their
    points get uniform noise, `stray_width` wide, before they are rounded."""

    stray_width: float = 0.7

    vary_speed: bool = True
    """Whether batches are played at 9/10, 1 and 11/10 of their speed by turns (Ko et al. 2015)."""

    def __post_init__(self) -> None:
        if self.hearing_weight < 0 or not 0 <= self.strays <= 1 or self.stray_width < 0:
            raise DataMismatch(
                "recipe.hearing_weight and recipe.stray_width must be at least 0, and "
                "recipe.strays from 0 to 1"
            )


class UnitToMelTask(HeardTask):
    """Log-mel frames again, from units, as Whisper would hear them."""

    def __init__(self, settings: TrainingSettings, **inputs: Any) -> None:
        """Build the network; `inputs` are `SpeechTask`'s, without the sample rate.

        Raises:
            DataMismatch: if no teacher or no k-means is named, they are none, windows are longer
                than the teacher hears, or the k-means' frames are not as the network's.
        """
        recipe = overlay(UnitToMelRecipe(), settings.recipe, where="recipe", prefix="recipe.")
        units = load_spoken_units(asdict(recipe), settings, device=inputs["device"])
        settings = settings.with_recipe(**units.fingerprints)
        self.config = UnitToMelConfig.from_json(
            {**units.shape, **settings.network}, where="the settings' network"
        )
        units.require_shape(self.config)
        super().__init__(settings, sample_rate=SAMPLE_RATE, **inputs)
        self._units, self._recipe = units, recipe
        torch.manual_seed(derive_seed(settings.seed, "weights"))
        self.network = self.config.build().to(self.device)
        self.players = {MODEL: self.network}

    def sums(self, network: Speaker, batch: SpeechBatch, *, varied: bool) -> SpokenSums:
        samples, lengths, generator = self.arrive_varied(
            batch, speed=varied and self._recipe.vary_speed
        )
        points, counts, recorded = self._units.heard(samples, lengths)
        if varied:
            rows = torch.rand(len(points), generator=generator) < self._recipe.strays
            noise = torch.rand(points.shape, generator=generator) - 0.5
            noise = self._recipe.stray_width * noise * rows[:, None, None]
            points = points + noise.to(points.device)
        return network.loss(
            self._units.rounded(points),
            counts,
            recorded,
            ear=self._units.ear,
            hearing_weight=self._recipe.hearing_weight,
        )

    def initialise(self, folder: Path) -> None:
        network, config, _ = load_unit_to_mel(folder)
        require_same_network(config, self.config, folder=folder)
        self.network.load_state_dict(network.state_dict())

    def export(self, folder: Path, weights: Mapping[str, Tensor], extra: dict[str, Any]) -> None:
        save_unit_network(
            folder,
            config=self.config,
            weights=weights,
            kmeans=self._units.kmeans,
            extra=extra,
        )
