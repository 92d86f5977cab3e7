"""Fewer frames a second from any encoder: the mean of every n frames, or the first of them."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from stages.errors import DataMismatch
from stages.semantic.base import Frames, SemanticEncoder
from stages.shards.provenance import hash_json

Reduction = Literal["mean", "drop"]
REDUCTIONS: tuple[Reduction, ...] = ("mean", "drop")


class ReducedEncoder(SemanticEncoder):
    """An encoder whose frames are brought from its own rate to a whole fraction of it."""

    def __init__(self, encoder: SemanticEncoder, *, rate: Fraction, reduction: Reduction) -> None:
        """Wrap `encoder`.

        Raises:
            DataMismatch: if its rate is no whole multiple of `rate`.
        """
        times = encoder.frame_rate / rate if rate > 0 else Fraction(0)
        if times.denominator != 1 or times < 1:
            raise DataMismatch(
                f"{encoder.name} makes {encoder.frame_rate} frames a second, which cannot be "
                f"brought to {rate}: the rate must be that divided by a whole number"
            )
        self._encoder = encoder
        self._times = int(times)
        self._reduction = reduction
        self.name = f"{encoder.name}@{rate}{reduction}"
        self.fingerprint = hash_json([encoder.fingerprint, str(rate), reduction])
        self.sample_rate = encoder.sample_rate
        self.frame_rate = rate
        self.dim = encoder.dim

    def encode(self, samples: Tensor, lengths: Tensor) -> Frames:
        """Encode `[B, N]` into `[B, ceil(T / n), D]`, where the encoder alone gives T frames."""
        frames = self._encoder.encode(samples, lengths)
        counts = -(-frames.lengths // self._times)
        if self._reduction == "drop":
            return Frames(values=frames.values[:, :: self._times], lengths=counts)
        B, T, D = frames.values.shape
        groups = -(-T // self._times)
        inside = torch.arange(T, device=frames.values.device) < frames.lengths[:, None]  # [B, T]
        padded = frames.values.new_zeros(B, groups * self._times, D)
        padded[:, :T] = torch.where(inside[..., None], frames.values, 0.0)
        sizes = padded.new_zeros(B, groups * self._times)
        sizes[:, :T] = inside
        total = padded.view(B, groups, self._times, D).sum(dim=2)
        size = sizes.view(B, groups, self._times).sum(dim=2)  # the last group may be short
        return Frames(values=total / size.clamp_min(1)[..., None], lengths=counts)
