"""Whisper's encoder, whose frames carry words well: a teacher for small encoders.

Run by CTranslate2, as faster-whisper does, since that is how the evaluation has its models, too.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.errors import DataMismatch
from stages.semantic.base import Frames, SemanticEncoder
from stages.semantic.encoders.layers import encode_each
from stages.semantic.whisper_ear import HEARD_SECONDS, SAMPLE_RATE
from stages.shards.provenance import hash_file, hash_json

PREFIX = "whisper:"
_WINDOW = HEARD_SECONDS * SAMPLE_RATE
"""Samples of Whisper's longest window; longer utterances are cut there."""

_SILENCE = 8_000
"""Samples put after a window: Whisper was trained on windows that end in silence."""


def teacher_folder(spec: str, *, refusal: str) -> Path:
    """The folder that `whisper:FOLDER` names.

    Raises:
        DataMismatch: with `refusal`, if it is of another form.
    """
    if not spec.startswith(PREFIX):
        raise DataMismatch(refusal)
    return Path(spec.removeprefix(PREFIX))


class WhisperEncoder(SemanticEncoder):
    """The last layer of Whisper's encoder, after its norm, row by row: 50 frames a second."""

    def __init__(self, spec: str, *, layer: int | None = None, device: str = "cpu") -> None:
        """Load `whisper:NAME` (`whisper:base`) or `whisper:FOLDER`, in CTranslate2's format.

        Raises:
            DataMismatch: if it cannot be loaded, or a layer is asked for.
        """
        if layer is not None:
            raise DataMismatch(f"{spec} gives its last layer only: leave --layer out")
        name = spec.removeprefix(PREFIX)
        self._model = _load(spec, name, device)
        weights = Path(name) / "model.bin"
        self.name = spec
        self.sample_rate = SAMPLE_RATE
        self.frame_rate = Fraction(50)
        self.fingerprint = hash_json(
            ["whisper", hash_file(weights) if weights.is_file() else name, _SILENCE]
        )
        self.dim = self._encode(torch.zeros(_SILENCE)).shape[1]

    @torch.inference_mode()
    def encode(self, samples: Tensor, lengths: Tensor) -> Frames:
        """Encode `[B, N]` into `[B, T, D]` with T = ceil(N / 320)."""
        return encode_each(self._encode, samples, lengths, self.dim)

    def _encode(self, row: Tensor) -> Tensor:
        """One row, `[N]` to `[T, D]`."""
        pieces = row.cpu().numpy()
        windows = [pieces[start : start + _WINDOW] for start in range(0, len(pieces), _WINDOW)]
        return torch.from_numpy(np.concatenate([self._window(window) for window in windows]))

    def _window(self, samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """At most 30 s, `[N]` to `[T, D]`."""
        frames = -(-len(samples) // 320)
        padded = np.zeros(min(frames * 320 + _SILENCE, _WINDOW), np.float32)
        padded[: len(samples)] = samples
        mel = self._model.feature_extractor(padded, padding=0)  # [80, 2 T]
        even = np.ascontiguousarray(mel[:, : mel.shape[1] // 2 * 2], np.float32)
        encoded = np.array(self._model.encode(even), np.float32)  # [1, T, D]
        return encoded[0, :frames]


def _load(spec: str, name: str, device: str) -> Any:
    if not name:
        raise DataMismatch("say which Whisper: --encoder whisper:base, or whisper:FOLDER")
    try:
        from faster_whisper import WhisperModel
    except ImportError:
        raise DataMismatch(
            f"the encoder {spec} needs faster-whisper: install soundstorm with its extra `eval`"
        ) from None
    try:
        return WhisperModel(
            name,
            device=device.split(":")[0],
            compute_type="int8",
            cpu_threads=len(os.sched_getaffinity(0)),
        )
    except Exception as error:  # whatever the hub, the disk or CTranslate2 says
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataMismatch(f"the encoder {spec} cannot be loaded: {reason[:300]}") from error
