"""A loaded refiner, which `tokenize-semantic` asks before a frame's unit is chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stages.assets import MINI, model_folder
from stages.errors import DataMismatch
from stages.semantic.kmeans import KMeans
from stages.semantic.speaking import RecordedLevels
from stages.semantic.unit_search.pieces import Pieces
from stages.semantic.unit_search.refiner import load_refiner
from stages.semantic.unit_search.unit_to_mel import load_speaker_of
from stages.semantic.whisper_ear import SAMPLE_RATE
from stages.shards.provenance import hash_json

NONE = "none"
"""Names no refiner."""


class Refinement:
    """Frames of a recording, moved to where their units sound more like it."""

    sample_rate = SAMPLE_RATE
    """Hz, of what `frames` takes."""

    def __init__(self, folder: Path, kmeans: KMeans, *, speaker: Path, device: str = "cpu") -> None:
        """Load what moves frames and what speaks them.

        Args:
            folder: of a refiner.
            kmeans: has the units.
            speaker: folder of the unit-to-mel model that the refiner learned with.
            device: where to run.

        Raises:
            DataMismatch: if one is no such model, or of other units, or the refiner learned with
                another unit-to-mel model.
        """
        network, self.config, file = load_refiner(folder)
        units = file.tokens.get("semantic", {}).get("fingerprint")
        if units != kmeans.tokens.fingerprint:
            raise DataMismatch(
                f"{folder} refines the frames of another k-means: train a refiner for this one, or "
                "leave it out with --refiner none"
            )
        speaks, self.speaker_config, spoken = load_speaker_of(speaker, kmeans)
        if file.extra.get("unit_to_mel") != spoken.fingerprint:
            raise DataMismatch(
                f"{folder} learned with another unit-to-mel model than {speaker}: name its own "
                "with --unit-to-mel"
            )
        place = torch.device(device)
        self._speaker = speaks.requires_grad_(False).to(place)
        self._network = network.requires_grad_(False).to(place)
        self.pieces = Pieces(self.speaker_config, place)
        self.fingerprint = hash_json([file.fingerprint, spoken.fingerprint])

    def frames(
        self, samples: npt.NDArray[np.float32], frames: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """The frames of a recording, moved.

        Args:
            samples: `[N]` at `sample_rate`.
            frames: `[T, dim]`, what the encoder made of them.

        Returns:
            `[T, dim]`; the same whatever was refined before.
        """
        return self.pieces.joined(samples, frames, self._move).astype(np.float32)

    @torch.no_grad()
    def _move(self, points: Tensor, levels: Tensor, recorded: RecordedLevels) -> Tensor:
        lengths = torch.tensor([len(points)], device=points.device)
        moved: Tensor = self._network(points[None], lengths, levels, recorded.voice, self._speaker)
        return moved[0]


def load_refinement(
    refiner: str | None,
    kmeans: KMeans,
    *,
    where: str,
    unit_to_mel: str | None = None,
    device: str = "cpu",
) -> Refinement | None:
    """What refines the frames of a k-means, if anything is to.

    Args:
        refiner: a folder, `mini` or `none`; `mini` is the default for the k-means of that name, and
            `none` for others.
        kmeans: has the units.
        where: its name or folder.
        unit_to_mel: a folder, or `mini`, the default.
        device: where to run.

    Raises:
        DataMismatch: as `Refinement` does.
    """
    if refiner is None:
        refiner = MINI if where == MINI else NONE
    if refiner == NONE:
        return None
    speaker = model_folder(unit_to_mel or MINI, "unit-to-mel")
    return Refinement(model_folder(refiner, "refiner"), kmeans, speaker=speaker, device=device)
