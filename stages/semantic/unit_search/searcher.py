"""A loaded search for units, which takes the nearest centroids' place in `tokenize-semantic`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

from stages.errors import DataMismatch
from stages.semantic.kmeans import KMeans
from stages.semantic.speaking import RecordedLevels, record
from stages.semantic.unit_search.ear import SearchEar
from stages.semantic.unit_search.searching import Loss, SearchSettings, search
from stages.semantic.unit_search.unit_to_mel import load_unit_to_mel
from stages.semantic.whisper_ear import LEAST_VARIANCE, SAMPLE_RATE, WhisperMel
from stages.shards.provenance import hash_json
from stages.shards.spec import TokenSpec

PIECE_SECONDS = 24
"""Searched at once: with its margins and some silence it is less than Whisper hears."""

MARGIN_SECONDS = 2
"""Before and after a piece, searched with it and not kept."""


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
            DataMismatch: if it is no such model, or of other units, or the ear is no Whisper.
        """
        speaker, config, file = load_unit_to_mel(folder)
        spec = TokenSpec.from_json(file.tokens.get("semantic", {}))
        if spec.fingerprint != kmeans.tokens.fingerprint:
            raise DataMismatch(
                f"{folder} speaks the units of another k-means ({spec.name}): train a unit-to-mel "
                "model for these, and name it with --unit-to-mel"
            )
        self._settings = settings or SearchSettings()
        self._device = torch.device(device)
        self._speaker = speaker.requires_grad_(False).to(self._device)
        self._ear = SearchEar(ear, mels=config.mels, device=self._device)
        self.fingerprint = hash_json(
            [file.fingerprint, self._ear.fingerprint, asdict(self._settings)]
        )
        self._mel = WhisperMel(config.mels).to(self._device)
        self._centroids = torch.from_numpy(kmeans.centroids).to(self._device)
        self._piece = int(PIECE_SECONDS * config.frame_rate)
        self._margin = int(MARGIN_SECONDS * config.frame_rate)

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
        points = torch.from_numpy(frames).to(self._device)
        recorded, levels = self._record(samples, len(frames))
        stack = self._speaker.stack
        generator = torch.Generator().manual_seed(0)
        found = [
            search(
                self._loss(levels[:, stack * begin : stack * end], recorded),
                points[begin:end],
                self._centroids,
                self._settings,
                generator,
            )[kept]
            for begin, end, kept in pieces(len(points), size=self._piece, margin=self._margin)
        ]
        return torch.cat(found).cpu().numpy().astype(np.uint16)

    def loss_of(self, samples: npt.NDArray[np.float32], count: int) -> Loss:
        """What is lost of a recording `[N]` by `count` points in one piece, as `units` sees it."""
        recorded, levels = self._record(samples, count)
        return self._loss(levels, recorded)

    def _record(
        self, samples: npt.NDArray[np.float32], count: int
    ) -> tuple[RecordedLevels, Tensor]:
        """A recording, and its scaled log-mel frames, `[1, stack * count, mels]`."""
        sound = torch.from_numpy(samples).to(self._device)[None]
        recorded = record(self._mel, sound, torch.tensor([len(samples)], device=self._device))
        scaled = recorded.scaled(recorded.levels)[:, : self._speaker.stack * count]
        return recorded, pad(scaled, (0, 0, 0, self._speaker.stack * count - scaled.shape[1]))

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


def pieces(count: int, *, size: int, margin: int) -> Iterator[tuple[int, int, slice]]:
    """Begin and end of each piece with its margins, and what of it is kept."""
    for start in range(0, count, size):
        stop = min(start + size, count)
        begin, end = max(0, start - margin), min(count, stop + margin)
        yield begin, end, slice(start - begin, stop - begin)
