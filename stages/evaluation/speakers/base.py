"""The one interface of every speaker encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray


class SpeakerEncoder(ABC):
    """A function from sound to a voice; its model loads at the first call, not before.

    One that has heard nothing yet can travel to a worker process.
    """

    fingerprint: str | None
    """SHA-256 of its weights, or the name under which they can be had; None where there are none.
    Equal fingerprints mean comparable embeddings."""

    packages: tuple[str, ...] = ()
    """Modules that it imports and that may be missing."""

    @abstractmethod
    def embed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """A unit vector `[D]` of `[N]` samples at 16 kHz, at least `SHORTEST` seconds of them.

        Raises:
            RowFailure: if there is no voice in it.
            DataMismatch: if the model cannot be loaded.
        """
