"""What the tasks on spoken units share: a k-means, its encoder, and a Whisper that hears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stages.assets import model_folder
from stages.errors import DataMismatch
from stages.semantic.base import SemanticEncoder
from stages.semantic.encoders.registry import load_chosen
from stages.semantic.kmeans import KMeans, load_kmeans
from stages.semantic.speaking import RecordedLevels, record
from stages.semantic.unit_search.config import UnitNetworkConfig
from stages.semantic.whisper_ear import SAMPLE_RATE, WhisperEar, WhisperMel
from stages.training.settings import TrainingSettings
from stages.training.tasks.heard_task import load_teacher


@dataclass(frozen=True, kw_only=True)
class SpokenUnits:
    """Units, and who hears what is spoken of them."""

    where: str
    """The k-means' name or folder, for messages."""

    kmeans: KMeans

    centroids: Tensor
    """`[K, dim]` on the device."""

    encoder: SemanticEncoder

    ear: WhisperEar

    ear_fingerprint: str
    """SHA-256 hex of its weights."""

    mel: WhisperMel

    @property
    def fingerprints(self) -> dict[str, Any]:
        """What goes into a recipe, always anew, so that no run resumes on others."""
        return {
            "encoder_fingerprint": self.ear_fingerprint,
            "kmeans_fingerprint": self.kmeans.tokens.fingerprint,
        }

    @property
    def shape(self) -> dict[str, Any]:
        """The fields of a network's configuration that they set."""
        return {"dim": self.centroids.shape[1], "mels": self.ear.mels}

    def require_shape(self, config: UnitNetworkConfig) -> None:
        """Refuse a network that they do not fit.

        Raises:
            DataMismatch: naming what does not.
        """
        if self.encoder.frame_rate != config.frame_rate:
            raise DataMismatch(
                f"the k-means {self.where} has {self.encoder.frame_rate} units a second and the "
                f"network {config.frame_rate}: set network.stack to "
                f"{float(100 / self.encoder.frame_rate):g}"
            )
        if {"dim": config.dim, "mels": config.mels} != self.shape:
            raise DataMismatch(
                f"the k-means {self.where} and the teacher have {self.shape}: leave network.dim "
                "and network.mels out"
            )

    def heard(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, RecordedLevels]:
        """The encoder's points `[B, T, dim]` of recordings `[B, N]`, how many there are of each,
        `[B]`, and the recordings' log-mel frames."""
        frames = self.encoder.encode(samples, lengths)
        # Copies, since no gradient passes what was made in inference mode.
        points, counts = frames.values.clone(), frames.lengths.clone()
        return points, counts, record(self.mel, samples, lengths)

    def rounded(self, points: Tensor) -> Tensor:
        """The centroids nearest to points `[B, T, dim]`."""
        return self.centroids[torch.cdist(points, self.centroids).argmin(dim=-1)]


def load_spoken_units(
    recipe: Mapping[str, Any], settings: TrainingSettings, *, device: torch.device
) -> SpokenUnits:
    """Load what a recipe's `kmeans` and `encoder` name.

    Raises:
        DataMismatch: if one is not named or is none, windows are longer than the teacher hears (at
            the slowest speed, with `vary_speed`), or the units are of sound at another rate.
    """
    kmeans = str(recipe["kmeans"])
    if not kmeans:
        raise DataMismatch("name the k-means whose units are spoken: --kmeans FOLDER or mini")
    ear, fingerprint = load_teacher(
        recipe["encoder"],
        max_seconds=settings.data.max_seconds,
        vary_speed=recipe["vary_speed"],
    )
    clusters = load_kmeans(model_folder(kmeans, "kmeans"))
    encoder = load_chosen(clusters.choice, device=str(device), kmeans=kmeans)
    clusters.require_encoder(encoder, where=kmeans)
    if encoder.sample_rate != SAMPLE_RATE:
        raise DataMismatch(
            f"{encoder.name} hears at {encoder.sample_rate} Hz and Whisper at {SAMPLE_RATE}: "
            "use a k-means of an encoder at that rate"
        )
    return SpokenUnits(
        where=kmeans,
        kmeans=clusters,
        centroids=torch.from_numpy(clusters.centroids).to(device),
        encoder=encoder,
        ear=ear.to(device),
        ear_fingerprint=fingerprint,
        mel=WhisperMel(ear.mels).to(device),
    )
