"""Teaching a network to speak units, so that a search can hear what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.assets import model_folder
from stages.errors import DataMismatch
from stages.semantic.encoders.registry import load_chosen
from stages.semantic.kmeans import load_kmeans
from stages.semantic.speaking import Speaker, SpokenSums, record
from stages.semantic.unit_search.unit_to_mel import (
    UnitToMelConfig,
    load_unit_to_mel,
    save_unit_to_mel,
)
from stages.semantic.whisper_ear import SAMPLE_RATE, WhisperMel
from stages.training.seeds import derive_seed
from stages.training.settings import TrainingSettings, overlay
from stages.training.speech import SpeechBatch
from stages.training.task import MODEL
from stages.training.tasks.heard_task import HeardTask, load_teacher, vary_speed
from stages.training.tasks.same_network import require_same_network


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
        if not recipe.kmeans:
            raise DataMismatch("name the k-means whose units are spoken: --kmeans FOLDER or mini")
        ear, fingerprint = load_teacher(
            recipe.encoder, max_seconds=settings.data.max_seconds, vary_speed=recipe.vary_speed
        )
        kmeans = load_kmeans(model_folder(recipe.kmeans, "kmeans"))
        settings = settings.with_recipe(
            encoder_fingerprint=fingerprint, kmeans_fingerprint=kmeans.tokens.fingerprint
        )
        given = {"dim": kmeans.centroids.shape[1], "mels": ear.mels}
        self.config = UnitToMelConfig.from_json(
            {**given, **settings.network}, where="the settings' network"
        )
        encoder = load_chosen(kmeans.choice, device=str(inputs["device"]))
        kmeans.require_encoder(encoder, where=recipe.kmeans)
        if encoder.sample_rate != SAMPLE_RATE:
            raise DataMismatch(
                f"{encoder.name} hears at {encoder.sample_rate} Hz and Whisper at {SAMPLE_RATE}: "
                "use a k-means of an encoder at that rate"
            )
        if encoder.frame_rate != self.config.frame_rate:
            raise DataMismatch(
                f"the k-means {recipe.kmeans} has {encoder.frame_rate} units a second and the "
                f"network {self.config.frame_rate}: set network.stack to "
                f"{float(100 / encoder.frame_rate):g}"
            )
        if (self.config.dim, self.config.mels) != tuple(given.values()):
            raise DataMismatch(
                f"the k-means {recipe.kmeans} and the teacher have {given}: leave network.dim and "
                "network.mels out"
            )
        super().__init__(settings, sample_rate=SAMPLE_RATE, **inputs)
        self._ear, self._encoder, self._recipe = ear.to(self.device), encoder, recipe
        self._tokens = kmeans.tokens
        self._centroids = torch.from_numpy(kmeans.centroids).to(self.device)
        self._mel = WhisperMel(ear.mels).to(self.device)
        torch.manual_seed(derive_seed(settings.seed, "weights"))
        self.network = self.config.build().to(self.device)
        self.players = {MODEL: self.network}

    def sums(self, network: Speaker, batch: SpeechBatch, *, varied: bool) -> SpokenSums:
        samples, lengths, generator = self.arrive(batch)
        if varied and self._recipe.vary_speed:
            samples, lengths = vary_speed(samples, lengths, generator)
        frames = self._encoder.encode(samples, lengths)
        points = frames.values.clone()  # of inference mode, in which no gradient passes
        if varied:
            rows = torch.rand(len(points), generator=generator) < self._recipe.strays
            noise = torch.rand(points.shape, generator=generator) - 0.5
            noise = self._recipe.stray_width * noise * rows[:, None, None]
            points = points + noise.to(points.device)
        units = torch.cdist(points, self._centroids).argmin(dim=-1)  # [B, T]
        return network.loss(
            self._centroids[units],
            frames.lengths.clone(),
            record(self._mel, samples, lengths),
            ear=self._ear,
            hearing_weight=self._recipe.hearing_weight,
        )

    def initialise(self, folder: Path) -> None:
        network, config, _ = load_unit_to_mel(folder)
        require_same_network(config, self.config, folder=folder)
        self.network.load_state_dict(network.state_dict())

    def export(self, folder: Path, weights: Mapping[str, Tensor], extra: dict[str, Any]) -> None:
        save_unit_to_mel(
            folder, config=self.config, weights=weights, tokens=self._tokens, extra=extra
        )
