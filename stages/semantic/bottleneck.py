"""A semantic encoder of few numbers, which must be enough for a recogniser to hear the words.

A Conformer gives each frame a point of a small cube; noise as wide as a k-means cell is added (in
place of the rounding, Ballé et al. 2017), and a second Conformer makes log-mel frames of the
points again. Those should be near to the recording's, and sound to Whisper as the recording does.
What k-means then finds among the points (`fit-kmeans`) are tokens that keep the words, whatever
else they must drop. Nearest to the supervised tokens of CosyVoice (Du et al. 2024), which need
transcripts, and to SpeechTokenizer's distillation (Zhang et al. 2023). Teacher and second network
(`spoken_bottleneck.py`) are needed in training only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.errors import DataMismatch
from stages.nn.model_file import ModelFile, load_model_file, load_weights, save_model_file
from stages.semantic.speech_conformer import SpeechConformer, SpeechConformerConfig
from stages.semantic.whisper_ear import SAMPLE_RATE

KIND = "bottleneck"
SPEAKER = "speaker."
"""Begins the names of the weights that only training needs: those of the second network."""


@dataclass(frozen=True, kw_only=True)
class BottleneckConfig(SpeechConformerConfig):
    """Shape of both networks; the fields on masked spans are of no effect here."""

    dim: int = 8
    """Numbers of a frame, each between -1 and 1."""

    noise_width: float = 0.7
    """Of the uniform noise on each number in training. K cells fill a cube of `dim` dimensions with
    sides of `2 / K ** (1 / dim)`: 0.7 are 4,096 of 8 dimensions, 0.6 are 16,384."""

    speaker_layers: int = 2
    """Blocks of the network that makes log-mel frames of the numbers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim < 1 or self.speaker_layers < 1 or not 0 <= self.noise_width <= 2:
            raise DataMismatch(
                "a bottleneck needs at least one dimension, one layer to speak with, and noise "
                "between 0 and 2 wide"
            )
        if self.sample_rate != SAMPLE_RATE:
            raise DataMismatch(f"a bottleneck hears as Whisper does, at {SAMPLE_RATE} Hz")


class Bottleneck(SpeechConformer):
    """The encoder: all that `tokenize-semantic` needs."""

    config: BottleneckConfig

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__(config)
        self.narrow = nn.Linear(config.width, config.dim)

    def points(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, N]` float32 and `[B]` samples to points `[B, T, dim]` and `[B]` frames."""
        features, counts = self.features(samples, lengths)
        # Half the slope of tanh at 0, so that a random network's points do not all lie at corners.
        return torch.tanh(self.narrow(self(features, counts)) / 2), counts


def save_bottleneck(
    folder: Path,
    *,
    config: BottleneckConfig,
    weights: Mapping[str, Tensor],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder of kind `bottleneck` from a training network's `state_dict` (or its
    average).

    What only training needs is left out.
    """
    kept = {name: value for name, value in weights.items() if not name.startswith(SPEAKER)}
    save_model_file(folder, kind=KIND, config=config.to_json(), weights=kept, extra=extra)


def load_bottleneck(folder: Path) -> tuple[Bottleneck, ModelFile]:
    """Read a model folder of kind `bottleneck`.

    Raises:
        DataMismatch: if it is none, or its weights do not fit its configuration.
    """
    file = load_model_file(folder, kind=KIND)
    network = Bottleneck(BottleneckConfig.from_json(file.config, where=str(folder)))
    load_weights(network, file.weights, folder)
    return network.eval(), file
