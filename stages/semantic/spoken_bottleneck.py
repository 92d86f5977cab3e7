"""What a bottleneck is trained with: a second network that makes its points sound again.

Noise as wide as a k-means cell stands in place of the rounding (Ballé et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from stages.nn.conformer import Conformer, padding_mask
from stages.semantic.bottleneck import Bottleneck, BottleneckConfig
from stages.semantic.whisper_ear import HOP, WhisperEar, WhisperMel, unheard


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


class SpokenBottleneck(Bottleneck):
    """The encoder and what training adds to it."""

    def __init__(self, config: BottleneckConfig, *, mels: int = 80) -> None:
        """Build it; `mels` are the bands that the teacher reads."""
        super().__init__(config)
        self.levels = WhisperMel(mels)
        self.speaker = Speaker(config, mels)

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
        if made.shape[1] % 2:
            made, wanted, inside = (torch.cat([x, x[:, -1:]], 1) for x in (made, wanted, inside))
        with torch.no_grad():
            truth = ear(wanted)
        heard = unheard(ear(made), truth, inside[:, ::2]) * frames.sum()
        return BottleneckSums(
            loss=mel + hearing_weight * heard, mel=mel.detach(), heard=heard.detach(),
            frames=frames.sum(),
        )  # fmt: skip
