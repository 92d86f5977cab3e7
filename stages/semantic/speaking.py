"""From points to Whisper's log-mel frames, and what of a recording's frames that needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from stages.nn.conformer import Conformer, ConformerConfig, padding_mask
from stages.semantic.whisper_ear import HOP, WhisperEar, WhisperMel, unheard

_LEAST_DEVIATION = 1e-2
"""Of a band, in Whisper's unit: one that never changes is scaled by this."""


@dataclass(frozen=True, kw_only=True)
class RecordedLevels:
    """A batch of recordings as Whisper's log-mel frames."""

    levels: Tensor
    """`[B, F, mels]`."""

    frames: Tensor
    """`[B]` int64, of each row."""

    inside: Tensor
    """`[B, F, 1]` bool: which of them are the recording's."""

    mean: Tensor
    """`[B, 1, mels]`, of each band of a recording."""

    deviation: Tensor
    """`[B, 1, mels]`, likewise."""

    floor: Tensor
    """`[B, 1, 1]`: the lowest level of each row."""

    def scaled(self, levels: Tensor) -> Tensor:
        """`[B, F, mels]` with each band's mean and deviation taken out."""
        return (levels - self.mean) / self.deviation

    def said(self, frames: int) -> Tensor:
        """`[B, frames, mels]`: what was recorded, scaled, and 0 past a row's end."""
        scaled = (self.scaled(self.levels) * self.inside)[:, :frames]
        return pad(scaled, (0, 0, 0, frames - scaled.shape[1]))

    @property
    def voice(self) -> tuple[Tensor, Tensor]:
        """`[B, 1, mels]` each: the bands' means and deviations."""
        return self.mean, self.deviation

    def heard(self, levels: Tensor) -> Tensor:
        """Levels `[B, F, mels]` as Whisper is to hear them: an even number of frames, and past its
        end a row as silent as it gets, as where Whisper was trained."""
        silenced = torch.where(self.inside, levels, self.floor)
        return torch.cat([silenced, silenced[:, -1:]], dim=1) if levels.shape[1] % 2 else silenced

    def difference(self, levels: Tensor) -> Tensor:
        """Scalar: mean absolute difference of `[B, F, mels]`, in deviations of their bands, summed
        over the recordings' frames."""
        off = ((levels - self.levels) / self.deviation).abs() * self.inside
        return off.sum() / levels.shape[2]

    @property
    def counted(self) -> Tensor:
        """`[B, ceil(F / 2), 1]` bool: which of Whisper's own frames count."""
        return self.inside[:, ::2]


@dataclass(frozen=True, kw_only=True)
class SpokenSums:
    """How far what is spoken is from recordings: sums over the frames (of 10 ms) of a batch."""

    loss: Tensor
    """Scalar with gradients: `mel + hearing_weight * heard`."""

    mel: Tensor
    """Scalar: mean absolute difference of log-mel frames, in deviations of their bands."""

    heard: Tensor
    """Scalar: share of the variance of Whisper's frames that is not as in the recording."""

    frames: Tensor
    """Scalar int64."""


@torch.no_grad()
def record(mel: WhisperMel, samples: Tensor, lengths: Tensor) -> RecordedLevels:
    """Log-mel frames of `[B, N]` float32 samples and `[B]` lengths."""
    levels = mel(samples)
    frames = -(-lengths // HOP)
    inside = (torch.arange(levels.shape[1], device=frames.device) < frames[:, None])[..., None]
    total = frames[:, None, None]
    mean = (levels * inside).sum(dim=1, keepdim=True) / total
    square = ((levels - mean) * inside).square().sum(dim=1, keepdim=True) / total
    return RecordedLevels(
        levels=levels,
        frames=frames,
        inside=inside,
        mean=mean,
        deviation=square.sqrt().clamp_min(_LEAST_DEVIATION),
        floor=levels.amin(dim=(1, 2), keepdim=True),
    )


class Speaker(nn.Module):
    """From points to Whisper's log-mel frames, given how loud each band is and how it varies."""

    def __init__(self, conformer: ConformerConfig, *, dim: int, stack: int, mels: int) -> None:
        """Build it, to make `stack` frames of `mels` bands of each point of `dim` numbers."""
        super().__init__()
        self.stack, self.mels = stack, mels
        self.points = nn.Linear(dim, conformer.width)
        self.voice = nn.Linear(2 * mels, conformer.width)
        self.conformer = Conformer(conformer)
        self.output = nn.Linear(conformer.width, stack * mels)

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
        levels: Tensor = mean + deviation * self.scaled(points, lengths, mean, deviation)
        return levels

    def loss(
        self,
        points: Tensor,
        lengths: Tensor,
        recorded: RecordedLevels,
        *,
        ear: WhisperEar,
        hearing_weight: float,
    ) -> SpokenSums:
        """Compare what is spoken of points with the recordings.

        Args:
            points: `[B, T, dim]`.
            lengths: `[B]` int64, points of each row.
            recorded: what was said.
            ear: the teacher.
            hearing_weight: of what the teacher hears against the log-mel frames themselves.
        """
        made = self(points, lengths, recorded.mean, recorded.deviation)
        made = made[:, : recorded.levels.shape[1]]
        mel = recorded.difference(made)
        with torch.no_grad():
            truth = ear(recorded.heard(recorded.levels))
        frames = recorded.frames.sum()
        heard = unheard(ear(recorded.heard(made)), truth, recorded.counted) * frames
        return SpokenSums(
            loss=mel + hearing_weight * heard, mel=mel.detach(), heard=heard.detach(),
            frames=frames,
        )  # fmt: skip

    def scaled(self, points: Tensor, lengths: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """The same without each band's mean and deviation, though made for them."""
        voice = self.voice(torch.cat([mean, deviation], dim=-1))  # [B, 1, D]
        hidden = self.conformer(self.points(points) + voice, padding_mask(lengths, points.shape[1]))
        frames: Tensor = self.output(hidden).unflatten(-1, (self.stack, self.mels)).flatten(1, 2)
        return frames
