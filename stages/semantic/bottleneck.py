"""A semantic encoder of few numbers, which must be enough for a recogniser to hear the words.

A Conformer gives each frame a point of a small cube; noise as wide as a k-means cell is added (in
place of the rounding, Ballé et al. 2017), and a second Conformer makes log-mel frames of the
points again. Those should be near to the recording's, and sound to Whisper as the recording does.
What k-means then finds among the points (`fit-kmeans`) are tokens that keep the words, whatever
else they must drop. Nearest to the supervised tokens of CosyVoice (Du et al. 2024), which need
transcripts, and to SpeechTokenizer's distillation (Zhang et al. 2023). Teacher and second network
are needed in training only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.errors import DataMismatch
from stages.nn.conformer import Conformer, padding_mask
from stages.nn.model_file import ModelFile, load_model_file, load_weights, save_model_file
from stages.semantic.speech_conformer import SpeechConformer, SpeechConformerConfig
from stages.semantic.whisper_ear import HOP, SAMPLE_RATE, WhisperEar, WhisperMel

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


@dataclass(frozen=True, kw_only=True)
class BottleneckSums:
    """Sums over the frames (of 10 ms) of a batch."""

    loss: Tensor
    """Scalar with gradients: `mel + hearing_weight * heard`."""

    mel: Tensor
    """Scalar: mean absolute difference of log-mel frames, in deviations of their bands."""

    heard: Tensor
    """Scalar: share of the variance of Whisper's frames that is not as in the recording."""

    frames: Tensor
    """Scalar int64."""


class Speaker(nn.Module):
    """From points to Whisper's log-mel frames, given how loud each band is and how it varies."""

    def __init__(self, config: BottleneckConfig, mels: int) -> None:
        super().__init__()
        self.stack, self.mels = config.stack, mels
        self.points = nn.Linear(config.dim, config.width)
        self.voice = nn.Linear(2 * mels, config.width)
        self.conformer = Conformer(replace(config.conformer, layers=config.speaker_layers))
        self.output = nn.Linear(config.width, config.stack * mels)

    def forward(self, points: Tensor, lengths: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """Make log-mel frames.

        Args:
            points: `[B, T, dim]`.
            lengths: `[B]` int64, points of each row.
            mean: `[B, 1, mels]`, of the recording's frames.
            deviation: `[B, 1, mels]`, likewise.

        Returns:
            `[B, stack * T, mels]`, as `WhisperMel` has them.
        """
        voice = self.voice(torch.cat([mean, deviation], dim=-1))  # [B, 1, D]
        hidden = self.conformer(self.points(points) + voice, padding_mask(lengths, points.shape[1]))
        frames = self.output(hidden).unflatten(-1, (self.stack, self.mels)).flatten(1, 2)
        levels: Tensor = mean + deviation * frames
        return levels


class Bottleneck(SpeechConformer):
    """The encoder with its points, and what training adds to it."""

    config: BottleneckConfig

    def __init__(self, config: BottleneckConfig, *, mels: int = 80) -> None:
        """Build it; `mels` are the bands that the teacher reads."""
        super().__init__(config)
        self.narrow = nn.Linear(config.width, config.dim)
        self.levels = WhisperMel(mels)
        self.speaker = Speaker(config, mels)

    def points(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, N]` float32 and `[B]` samples to points `[B, T, dim]` and `[B]` frames."""
        features, counts = self.features(samples, lengths)
        # Half the slope of tanh at 0, so that a random network's points do not all lie at corners.
        return torch.tanh(self.narrow(self(features, counts)) / 2), counts

    def loss(
        self,
        samples: Tensor,
        lengths: Tensor,
        *,
        ear: WhisperEar,
        hearing_weight: float,
        generator: torch.Generator | None,
    ) -> BottleneckSums:
        """Compare what is spoken of the points with the recording.

        Args:
            samples: `[B, N]` float32 on the network's device, 0 at padding.
            lengths: `[B]` int64, samples of each row, on the same device.
            ear: the teacher.
            hearing_weight: of what the teacher hears against the log-mel frames themselves.
            generator: a CPU generator of the noise; None adds none.
        """
        points, counts = self.points(samples, lengths)
        if generator is not None:
            noise = torch.rand(points.shape, generator=generator) - 0.5
            points = points + self.config.noise_width * noise.to(points.device)
        with torch.no_grad():
            wanted = self.levels(samples)  # [B, F, mels]
            frames = -(-lengths // HOP)
            inside = (torch.arange(wanted.shape[1], device=frames.device) < frames[:, None])[
                ..., None
            ]
            total = frames[:, None, None]
            mean = (wanted * inside).sum(dim=1, keepdim=True) / total
            square = ((wanted - mean) * inside).square().sum(dim=1, keepdim=True) / total
            deviation = square.sqrt().clamp_min(1e-2)
            floor = wanted.amin(dim=(1, 2), keepdim=True)  # [B, 1, 1]
        made = self.speaker(points, counts, mean, deviation)[:, : wanted.shape[1]]
        mel = (((made - wanted) / deviation).abs() * inside).sum() / wanted.shape[2]
        # Past its end a row is as silent as it gets, as where Whisper was trained.
        made, wanted = (torch.where(inside, levels, floor) for levels in (made, wanted))
        heard = _unheard(made, wanted, inside, ear) * frames.sum()
        return BottleneckSums(
            loss=mel + hearing_weight * heard, mel=mel.detach(), heard=heard.detach(),
            frames=frames.sum(),
        )  # fmt: skip


def _unheard(made: Tensor, wanted: Tensor, inside: Tensor, ear: WhisperEar) -> Tensor:
    """Mean over Whisper's last block and the two thirds and third before it, channel by channel, of
    the squared difference over the variance; a scalar."""
    if made.shape[1] % 2:
        made, wanted, inside = (torch.cat([x, x[:, -1:]], dim=1) for x in (made, wanted, inside))
    with torch.no_grad():
        truth = ear(wanted)
    heard = ear(made)
    real = inside[:, ::2]  # [B, T, 1]

    def over_frames(values: Tensor) -> Tensor:
        """Channels' means over the real frames: `[B, T, D]` to `[D]`."""
        return (values * real).sum(dim=(0, 1)) / real.sum()

    shares = []
    for number in sorted({ear.layers // 3, 2 * ear.layers // 3, ear.layers} - {0}):
        there, here = truth[number - 1].float(), heard[number - 1].float()
        variance = over_frames((there - over_frames(there)).square()).clamp_min(1e-4)
        shares.append((over_frames((here - there).square()) / variance).mean())
    return torch.stack(shares).mean()


def save_bottleneck(
    folder: Path,
    *,
    config: BottleneckConfig,
    weights: Mapping[str, Tensor],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder of kind `bottleneck` from a network's `state_dict` (or its average).

    What only training needs is left out.
    """
    kept = {name: value for name, value in weights.items() if not name.startswith(SPEAKER)}
    save_model_file(folder, kind=KIND, config=config.to_json(), weights=kept, extra=extra)


def load_bottleneck(folder: Path) -> tuple[Bottleneck, ModelFile]:
    """Read a model folder of kind `bottleneck`, for `points` alone: what training adds is random.

    Raises:
        DataMismatch: if it is none, or its weights do not fit its configuration.
    """
    file = load_model_file(folder, kind=KIND)
    network = Bottleneck(BottleneckConfig.from_json(file.config, where=str(folder)))
    rest = {name: value for name, value in network.state_dict().items() if name.startswith(SPEAKER)}
    load_weights(network, {**rest, **file.weights}, folder)
    return network.eval(), file
