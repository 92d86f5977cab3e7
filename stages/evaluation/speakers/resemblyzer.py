"""Resemblyzer's LSTM (generalised end-to-end loss, Wan et al. 2018); its weights come inside."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import RowFailure
from stages.evaluation.measure import SAMPLE_RATE, SHORTEST, third_party
from stages.evaluation.speakers.base import SpeakerEncoder
from stages.shards.provenance import hash_file

NAME = "resemblyzer"


class Resemblyzer(SpeakerEncoder):
    """256 numbers of the voiced part."""

    packages = ("resemblyzer", "webrtcvad", "librosa", "pkg_resources")

    def __init__(self, device: str = "cpu") -> None:
        self.fingerprint = _weights_hash()
        self._device = device
        self._encoder: Any = None

    def embed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        with third_party("voice"):
            from resemblyzer import VoiceEncoder, normalize_volume, trim_long_silences

            if self._encoder is None:
                self._encoder = VoiceEncoder(self._device, verbose=False)
        if not samples.any():
            raise RowFailure("it is silent: there is no voice in it")
        # Its own preparation, but clipped: it would wrap louder samples around.
        loud = np.clip(normalize_volume(samples, -30, increase_only=True), -1.0, 1.0)
        voiced = trim_long_silences(loud)
        if len(voiced) < SHORTEST * SAMPLE_RATE:
            voiced = loud  # noise, or a voice that its detector does not know as one
        embedding: NDArray[np.float32] = self._encoder.embed_utterance(voiced)
        return embedding


def _weights_hash() -> str | None:
    """SHA-256 hex of the weights, found without importing the package."""
    spec = find_spec("resemblyzer")
    if spec is None or spec.origin is None:
        return None
    weights = Path(spec.origin).parent / "pretrained.pt"
    return hash_file(weights) if weights.is_file() else None
