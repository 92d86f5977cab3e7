"""A loaded search for units, which takes the nearest centroids' place in `tokenize-semantic`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stages.semantic.kmeans import KMeans
from stages.semantic.speaking import RecordedLevels
from stages.semantic.unit_search.ear import SearchEar
from stages.semantic.unit_search.gliding import glide
from stages.semantic.unit_search.pieces import Pieces
from stages.semantic.unit_search.searching import Loss, SearchSettings, search
from stages.semantic.unit_search.unit_to_mel import load_speaker_of
from stages.semantic.whisper_ear import LEAST_VARIANCE, SAMPLE_RATE
from stages.shards.provenance import hash_json


class UnitSearch:
    """Units of a recording by how it sounds when they are spoken."""

    sample_rate = SAMPLE_RATE
    """Hz, of what `units` takes."""

    def __init__(
        self,
        folder: Path,
        kmeans: KMeans,
        *,
        ear: str,
        device: str = "cpu",
        settings: SearchSettings | None = None,
    ) -> None:
        """Load what speaks and what listens.

        Args:
            folder: of a unit-to-mel model.
            kmeans: has the units.
            ear: `whisper:FOLDER`, which listens.
            device: where to search.
            settings: how long and how far; the defaults.

        Raises:
            DataMismatch: if it is no such model, or of another encoder, or the ear is no Whisper.
        """
        speaker, config, file = load_speaker_of(folder, kmeans.encoder_fingerprint)
        self._settings = settings or SearchSettings()
        place = torch.device(device)
        self._speaker = speaker.requires_grad_(False).to(place)
        self._ear = SearchEar(ear, mels=config.mels, device=place)
        self.fingerprint = hash_json(
            [file.fingerprint, self._ear.fingerprint, asdict(self._settings)]
        )
        self._centroids = torch.from_numpy(kmeans.centroids).to(place)
        self._pieces = Pieces(config, place)

    def units(
        self, samples: npt.NDArray[np.float32], frames: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.uint16]:
        """The units of a recording.

        Args:
            samples: `[N]` at `sample_rate`.
            frames: `[T, dim]`, what the encoder made of them.

        Returns:
            `[T]`; the same whatever was searched for before.
        """
        generator = torch.Generator().manual_seed(0)
        settings, centroids = self._settings, self._centroids

        def search_piece(points: Tensor, levels: Tensor, recorded: RecordedLevels) -> Tensor:
            loss = self._loss(levels, recorded)
            steps, rate = settings.steps, settings.rate
            moved = glide(loss, points, centroids, steps=steps, rate=rate)
            return search(loss, moved, centroids, settings, generator)

        return self._pieces.joined(samples, frames, search_piece).astype(np.uint16)

    def loss_of(self, samples: npt.NDArray[np.float32], count: int) -> Loss:
        """What is lost of a recording `[N]` by `count` points in one piece, as `units` sees it."""
        recorded = self._pieces.record(samples)
        return self._loss(recorded.said(self._speaker.stack * count), recorded)

    def _loss(self, levels: Tensor, recorded: RecordedLevels) -> Loss:
        """What is lost of `[1, F, mels]` scaled log-mel frames by points that are spoken."""
        ear, speaker = self._ear, self._speaker
        with torch.no_grad():
            truth = ear(levels, recorded)
        scales = [
            block.var(dim=1, keepdim=True, unbiased=False).clamp_min(LEAST_VARIANCE)
            for block in truth
        ]

        def lost(points: Tensor) -> Tensor:
            rows, count, _ = points.shape
            lengths = torch.full((rows,), count, device=points.device)
            voice = (recorded.mean.expand(rows, -1, -1), recorded.deviation.expand(rows, -1, -1))
            heard = ear(speaker.scaled(points, lengths, *voice), recorded)
            parts = [
                ((here - there).square() / scale).mean(dim=-1)
                for here, there, scale in zip(heard, truth, scales, strict=True)
            ]
            frames = torch.stack(parts).mean(dim=0)  # [B, stack / 2 * T]
            return frames.reshape(rows, count, -1).mean(dim=-1)

        return lost
