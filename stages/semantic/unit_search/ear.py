"""Who listens to what a search speaks: a Whisper's encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.errors import DataMismatch
from stages.nn.precision import has_bfloat16
from stages.semantic.encoders.whisper import teacher_folder
from stages.semantic.speaking import RecordedLevels
from stages.semantic.whisper_ear import chosen_blocks, load_ear
from stages.shards.provenance import hash_file, hash_json

_SILENCE = 100
"""Log-mel frames, a second, after what is heard: Whisper was trained on pieces that end so."""


class SearchEar:
    """Says how log-mel frames sound; in bfloat16 where a CPU has it, or there is a GPU."""

    def __init__(self, spec: str, *, mels: int, device: torch.device) -> None:
        """Load a Whisper.

        Args:
            spec: `whisper:FOLDER`, in CTranslate2's format.
            mels: bands that the search speaks.
            device: where it listens.

        Raises:
            DataMismatch: if it is none, or hears other bands.
        """
        folder = teacher_folder(
            spec, refusal=f"--search {spec} is no Whisper to listen with: give whisper:FOLDER"
        )
        ear = load_ear(folder)
        if ear.mels != mels:
            raise DataMismatch(
                f"{folder} hears {ear.mels} bands, and what is spoken has {mels}: use a Whisper of "
                f"{mels}"
            )
        short = device.type != "cpu" or has_bfloat16()
        self._dtype = torch.bfloat16 if short else torch.float32
        self._ear = ear.to(device, self._dtype)
        self.fingerprint = hash_json([hash_file(folder / "model.bin"), str(self._dtype)])

    def __call__(self, levels: Tensor, recorded: RecordedLevels) -> list[Tensor]:
        """What is heard, with gradients.

        Args:
            levels: `[B, 2 T, mels]`, scaled as `recorded` scales them.
            recorded: one recording, whose voice all rows have.

        Returns:
            `[B, T, D]` float32, of each of `chosen_blocks`.
        """
        silence = recorded.floor.expand(len(levels), _SILENCE, levels.shape[2])
        loud = recorded.mean + recorded.deviation * levels
        blocks = self._ear(torch.cat([loud, silence], dim=1).to(self._dtype))
        frames = levels.shape[1] // 2
        return [blocks[index][:, :frames].float() for index in chosen_blocks(len(blocks))]
