"""A loaded refiner, which `tokenize-semantic` asks before a frame's unit is chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stages.assets import model_folder
from stages.errors import DataMismatch
from stages.semantic.kmeans import RefinerChoice
from stages.semantic.speaking import RecordedLevels
from stages.semantic.unit_search.config import require_points_of
from stages.semantic.unit_search.pieces import Pieces
from stages.semantic.unit_search.refiner import load_refiner
from stages.semantic.unit_search.unit_to_mel import load_speaker_of
from stages.semantic.whisper_ear import SAMPLE_RATE
from stages.shards.provenance import hash_json


class Refinement:
    """Frames of a recording, moved to where their units sound more like it."""

    sample_rate = SAMPLE_RATE
    """Hz, of what `frames` takes."""

    def __init__(self, folder: Path, encoder: str, *, speaker: Path, device: str = "cpu") -> None:
        """Load what moves frames and what speaks them.

        Args:
            folder: of a refiner.
            encoder: the fingerprint of what makes the frames (`KMeans.encoder_fingerprint`).
            speaker: folder of the unit-to-mel model that the refiner learned with.
            device: where to run.

        Raises:
            DataMismatch: if one is no such model, or of another encoder, or the refiner learned
                with another unit-to-mel model.
        """
        network, self.config, file = load_refiner(folder)
        require_points_of(
            file,
            encoder,
            refusal=f"{folder} refines the frames of another encoder: train a refiner for this "
            "one, or leave it out with --refiner none",
        )
        speaks, self.speaker_config, spoken = load_speaker_of(speaker, encoder)
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
    choice: RefinerChoice | None, encoder: str, *, device: str = "cpu"
) -> Refinement | None:
    """What refines an encoder's frames, if anything is to.

    Args:
        choice: which models.
        encoder: the encoder's fingerprint.
        device: where to run.

    Raises:
        DataMismatch: as `Refinement` does.
    """
    if choice is None:
        return None
    speaker = model_folder(choice.unit_to_mel, "unit-to-mel")
    return Refinement(model_folder(choice.spec, "refiner"), encoder, speaker=speaker, device=device)
