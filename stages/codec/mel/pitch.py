"""The pitch of mel frames, told by a small network as a choice among many (as CREPE tells that of
samples; Kim et al., 2018)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.codec.mel.config import SourceFilterConfig
from stages.codec.mel.convnext import ConvNeXt
from stages.codec.mel.network import normalise_mel

POINTS = 2
"""Pitches a frame, at its first sample and half a hop later."""

STEP = 0.015
"""Natural logarithm of the ratio of neighbouring candidates, a quarter of a semitone."""

NEAR = 3
"""Candidates on each side of the likeliest that the pitch is a mean of."""


def candidates(config: SourceFilterConfig) -> int:
    """Number of pitches to choose from."""
    return int(math.log(config.highest / config.lowest) / STEP) + 1


class PitchNetwork(nn.Module):
    """Log-mel frames to a pitch and how surely there is one, `POINTS` times a frame."""

    log_pitches: Tensor

    def __init__(self, config: SourceFilterConfig) -> None:
        super().__init__()
        self.config = config
        count = candidates(config)
        self.backbone = ConvNeXt(
            config.mels,
            POINTS * (count + 1),
            width=config.width,
            hidden=config.hidden,
            blocks=config.blocks,
            kernel=config.kernel,
        )
        log_pitches = math.log(config.lowest) + STEP * torch.arange(count)
        self.register_buffer("log_pitches", log_pitches, persistent=False)  # [K]

    def forward(self, mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Weigh the candidates.

        Args:
            mel: log-mel `[B, T, M]`.
            mask: `[B, T, 1]`, 1 at real frames.

        Returns:
            `[B, P, K]`, P = `POINTS` x T: logits of the pitch, where there is one; and `[B, P]`:
            that there is one.
        """
        B, T, _ = mel.shape
        logits = self.backbone(normalise_mel(mel), mask).view(B, POINTS * T, -1)
        return logits[..., :-1], logits[..., -1]

    def pitch(self, logits: Tensor) -> Tensor:
        """Logits `[..., K]` to Hz: the mean about the likeliest, in logarithms."""
        nearest = self._nearest(logits)
        weights = logits.gather(-1, nearest).softmax(dim=-1)
        return (weights * self.log_pitches[nearest]).sum(dim=-1).exp()

    def sureness(self, logits: Tensor) -> Tensor:
        """Logits `[..., K]` to the probability `[...]` that the pitch is about the likeliest."""
        return logits.softmax(dim=-1).gather(-1, self._nearest(logits)).sum(dim=-1)

    def _nearest(self, logits: Tensor) -> Tensor:
        """Logits `[..., K]` to the candidates about the likeliest, `[..., 2 NEAR + 1]`."""
        around = torch.arange(-NEAR, NEAR + 1, device=logits.device)
        middle = logits.argmax(dim=-1).clamp(NEAR, logits.shape[-1] - 1 - NEAR)
        return middle[..., None] + around

    def losses(self, logits: Tensor, voicing: Tensor, pitch: Tensor) -> tuple[Tensor, Tensor]:
        """Hold what `forward` gave against the truth.

        Args:
            logits: `[N, K]`.
            voicing: `[N]`.
            pitch: `[N]`, Hz, 0 where there is none.

        Returns:
            What the choice diverges from the truth, blurred by a step, nats a voiced point; and
            the cross entropy of whether a point is voiced, nats.
        """
        voiced = pitch > 0
        distance = (pitch[voiced, None].log() - self.log_pitches) / STEP  # [V, K]
        truth = (-distance.square() / 2).softmax(dim=-1)
        chosen = F.kl_div(logits[voiced].log_softmax(dim=-1), truth, reduction="sum")
        return chosen / voiced.sum().clamp_min(1), F.binary_cross_entropy_with_logits(
            voicing, voiced.float()
        )
