"""The one interface of every speech recogniser that judges intelligibility."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Judge(ABC):
    """A function from sound to words; its model loads at the first call, not before.

    One that has heard nothing yet can travel to a worker process.
    """

    name: str
    """As users call it, without where its weights are: `whisper:base`."""

    language: str
    """Two letters: which normaliser its words go through."""

    settings: dict[str, Any]
    """JSON values that decide what it hears, with the SHA-256 of weights that are here."""

    packages: tuple[str, ...] = ()
    """Modules of the `eval` extra that it imports."""

    @property
    def slug(self) -> str:
        """The name as part of a column's: `whisper_base`."""
        return re.sub(r"\W+", "_", self.name).strip("_").lower()

    @abstractmethod
    def __call__(self, samples: NDArray[np.float32]) -> str:
        """Transcribe `[N]` float32 at 16 kHz, the same way each time.

        Raises:
            DataMismatch: if the model cannot be loaded.
        """
