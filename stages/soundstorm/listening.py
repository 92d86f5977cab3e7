"""What a recogniser hears in the frames that SoundStorm chose, against what it should hear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.codec.mel.convnext import frame_mask
from stages.codec.mel.network import MelCodec
from stages.codec.mel.postfilter import postfilter
from stages.codec.mel.whisper_levels import WhisperLevels
from stages.semantic.whisper_decoder import WhisperText, load_decoder
from stages.semantic.whisper_ear import floor_of, load_ear, unheard
from stages.soundstorm.unrolled import PromptedRows

_SILENCE = 100
"""Frames of 10 ms after the longest row: Whisper was trained on utterances that end."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """Means over a batch."""

    difference: Tensor
    """Scalar with gradients: the share of the variance of Whisper's frames that is not as of the
    true tokens, where they were generated."""

    divergence: Tensor
    """Scalar with gradients: Kullback-Leibler divergence, in nats a token of text, of what
    Whisper expects next, told the text so far, from what it expects of the true tokens' sound;
    0 where no row has a text."""

    frames: int
    """That were generated."""

    tokens: int
    """Of text."""

    def means(self) -> list[tuple[str, Tensor, Tensor]]:
        """Names, means and their weights, to be logged."""
        return [
            ("difference", self.difference, torch.tensor(self.frames)),
            ("divergence", self.divergence, torch.tensor(self.tokens)),
        ]


class Listener(nn.Module):
    """A mel codec's decoder, and a Whisper that reads what it makes; both frozen.

    Args:
        codec: that made the acoustic tokens.
        folder: of a Whisper in CTranslate2's format.

    Raises:
        DataMismatch: if there is no Whisper, or it does not hear such frames.
    """

    def __init__(self, codec: MelCodec, folder: Path) -> None:
        super().__init__()
        self.codec = codec
        self.ear = load_ear(folder)
        self.levels = WhisperLevels(codec.config.geometry, self.ear.mels)
        self.decoder = load_decoder(folder)
        self.text = WhisperText(folder)
        self.requires_grad_(False)

    def forward(self, quantised: Tensor, rows: PromptedRows, texts: Sequence[str | None]) -> Heard:
        """Compare.

        Args:
            quantised: `[B, T, D]` of `unroll`.
            rows: what was to be spoken.
            texts: `[B]`: what is said, where it is known.
        """
        frames = rows.lengths.to(quantised.device)
        made = self.ear(self._read(quantised, frames))
        with torch.no_grad():
            wanted = self.codec.quantizer.decode(rows.acoustic)
            truth = self.ear(self._read(wanted, frames))
        generated = rows.generated.repeat_interleave(self.levels.times, dim=1)[:, ::2, None]
        difference = unheard(
            [layer[:, : generated.shape[1]] for layer in made],
            [layer[:, : generated.shape[1]] for layer in truth],
            generated,
        )
        count = int((rows.lengths - rows.prompts).sum())
        told = [index for index, text in enumerate(texts) if text]
        if not told:
            nothing = difference.new_zeros(())
            return Heard(difference=difference, divergence=nothing, frames=count, tokens=0)
        tokens, due = self.text.encode([texts[index] or "" for index in told])
        tokens, due = tokens.to(quantised.device), due.to(quantised.device)
        with torch.no_grad():
            there = self.decoder(tokens, truth[-1][told])[due].float().log_softmax(dim=-1)  # [N, V]
        here = self.decoder(tokens, made[-1][told])[due].float().log_softmax(dim=-1)
        divergence = (there.exp() * (there - here)).sum(dim=-1).mean()
        return Heard(difference=difference, divergence=divergence, frames=count, tokens=len(here))

    def _read(self, quantised: Tensor, frames: Tensor) -> Tensor:
        """Whisper's log-mel frames `[B, times * T + _SILENCE, mels]` of quantised frames."""
        mel = self.codec.restore(quantised, frames)
        # Behind its end a row goes on as it ended: its last frame has no other to be drawn to.
        rows = [
            F.pad(postfilter(row[:length]).T[None], (0, len(row) - length), mode="replicate")
            for row, length in zip(mel, frames.tolist(), strict=True)
        ]
        mel = torch.cat(rows).transpose(1, 2)
        levels = self.levels(mel)
        real = frame_mask(frames * self.levels.times, levels.shape[1]) > 0
        loudest = levels.detach().masked_fill(~real, -torch.inf).amax(dim=(1, 2), keepdim=True)
        silence = floor_of(loudest)
        levels = torch.where(real, levels.maximum(silence), silence)
        end = silence.expand(-1, _SILENCE + levels.shape[1] % 2, levels.shape[2])
        return torch.cat((levels, end), dim=1)
