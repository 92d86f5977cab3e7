"""The contrast of mel frames: what it keeps and what it lowers."""

from __future__ import annotations

import math

import torch

from stages.codec.mel.postfilter import CONTRAST, postfilter


def cosine(order: int, bands: int = 40) -> torch.Tensor:
    """A spectrum with only that cepstrum, `[bands]`."""
    return torch.cos(order * math.pi * (torch.arange(bands) + 0.5) / bands)


def test_a_steady_sound_stays() -> None:
    frames = (-5 + 2 * cosine(2) + 0.3 * cosine(9)).expand(6, -1)
    torch.testing.assert_close(postfilter(frames), frames)


def test_what_is_quiet_gets_quieter_and_what_is_loud_stays() -> None:
    loud = -3 + cosine(1)
    levels = torch.tensor([0.0, -1.0, 0.0, -4.0, 0.0, 0.0])
    wanted = loud + CONTRAST * levels[:, None]
    torch.testing.assert_close(postfilter(loud + levels[:, None]), wanted)


def test_one_frame_is_its_own_loud_level() -> None:
    frame = (-5 + cosine(2))[None]
    torch.testing.assert_close(postfilter(frame), frame)
