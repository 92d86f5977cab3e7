"""faster-whisper as a judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import DataMismatch
from stages.evaluation.judges.base import Judge
from stages.evaluation.local_models import means_a_path, reason_of
from stages.evaluation.measure import third_party
from stages.shards.provenance import hash_file

PREFIX = "whisper:"


class Whisper(Judge):
    """faster-whisper, by name or folder."""

    packages = ("faster_whisper",)

    def __init__(
        self,
        model: str,
        *,
        language: str = "en",
        beam: int = 1,
        compute_type: str = "int8",
        device: str = "cpu",
    ) -> None:
        """
        Args:
            model: a name that faster-whisper knows (`base`, `large-v3`) or a folder.
            language: the language spoken, two letters.
            beam: beam width; 1 is greedy.
            compute_type: CTranslate2's, `int8` or `float32` for example.
            device: `cpu` or `cuda`.

        Raises:
            DataMismatch: if a folder is named that holds no such model.
        """
        folder = Path(model)
        weights = folder / "model.bin"
        if (folder.is_dir() or means_a_path(model)) and not weights.is_file():
            raise DataMismatch(
                f"{model} is no Whisper model: give a folder with a CTranslate2 model.bin, or a "
                "name such as base"
            )
        self.name = PREFIX + (folder.resolve().name if weights.is_file() else model)
        self.language = language
        self.settings: dict[str, Any] = {
            "whisper": hash_file(weights) if weights.is_file() else model,
            "language": language,
            "beam": beam,
            "compute_type": compute_type,
        }
        self._given = model
        self._device = device.split(":")[0]
        self._model: Any = None

    def __call__(self, samples: NDArray[np.float32]) -> str:
        if self._model is None:
            self._model = self._load()
        segments, _ = self._model.transcribe(
            samples,
            language=self.language,
            beam_size=self.settings["beam"],
            temperature=0.0,  # no second try by sampling: a score must not depend on chance
            condition_on_previous_text=False,
        )
        return " ".join(segment.text.strip() for segment in segments)

    def _load(self) -> Any:
        with third_party("wer"):
            from faster_whisper import WhisperModel

            try:
                return WhisperModel(
                    self._given,
                    device=self._device,
                    compute_type=self.settings["compute_type"],
                    cpu_threads=1,  # worker processes share the cores (see `judging`)
                )
            except ImportError:
                raise
            except Exception as error:  # whatever the hub, the disk or CTranslate2 says
                raise DataMismatch(
                    f"Whisper model {self._given} cannot be loaded ({reason_of(error)}): give a "
                    "folder that holds one, or a name that can be downloaded"
                ) from None
