"""Whisper's encoder in torch, through which gradients pass: what a sound means to a recogniser.

`encoders/whisper.py` runs the same weights faster, without gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.semantic.whisper_part import WhisperPart, read_part

SAMPLE_RATE = 16_000
HOP = 160
"""Samples of a frame: 100 frames a second, two of which make one of the encoder's."""

HEARD_SECONDS = 30
"""Of sound that Whisper hears at once, at most."""

FFT = 400
"""Samples of a frame's Fourier transform, and of its window."""

LEAST_VARIANCE = 1e-4
"""Of a channel of Whisper's frames, by which differences are divided."""

_RANGE = 2.0
"""Levels so far under an utterance's loudest are cut: 8 powers of ten, in Whisper's unit of 4."""


class WhisperMel(nn.Module):
    """The log-mel frames that Whisper reads (Radford et al. 2022, section 2.2)."""

    window: Tensor
    filters: Tensor

    def __init__(self, mels: int = 80) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)
        self.register_buffer("filters", whisper_filters(FFT // 2 + 1, mels), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """`[B, N]` float32 to `[B, ceil(N / 160), mels]`; a row's loudest level sets its floor."""
        padded = F.pad(samples, (0, -samples.shape[1] % HOP))
        spectrum = torch.stft(
            padded, FFT, HOP, window=self.window, center=True, return_complex=True
        )[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()  # [B, fft / 2 + 1, T]
        with torch.autocast(power.device.type, enabled=False):
            levels = compress(power.transpose(1, 2) @ self.filters)
        return levels.maximum(floor_of(levels.amax(dim=(1, 2), keepdim=True)))


def whisper_filters(bins: int, mels: int) -> Tensor:
    """Mel filters `[bins, mels]` over evenly spaced frequencies from 0 to `SAMPLE_RATE` / 2."""
    from torchaudio.functional import melscale_fbanks

    filters: Tensor = melscale_fbanks(
        bins, 0.0, SAMPLE_RATE / 2, mels, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
    )
    return filters


def compress(power: Tensor) -> Tensor:
    """Power of mel bands to levels, in units of four powers of ten."""
    return power.clamp_min(1e-10).log10() / 4 + 1


def floor_of(loudest: Tensor) -> Tensor:
    """The level under which Whisper's frames are cut, by their loudest one."""
    return loudest - _RANGE


class WhisperEar(WhisperPart):
    """The encoder of a Whisper of any size, frozen."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """Build it from CTranslate2's variables of the encoder, by their names there."""
        super().__init__(weights, "encoder")
        self.width, self.mels, _ = self.at("conv1/weight").shape

    def forward(self, levels: Tensor) -> list[Tensor]:
        """What each block makes of log-mel frames, the last one's after the final norm.

        Args:
            levels: `[B, 2 T, mels]` of `WhisperMel`, at most `HEARD_SECONDS`.

        Returns:
            `[B, T, D]` of each block.
        """
        x = levels.transpose(1, 2)
        x = F.gelu(F.conv1d(x, self.at("conv1/weight"), self.at("conv1/bias"), padding=1))
        x = F.conv1d(x, self.at("conv2/weight"), self.at("conv2/bias"), stride=2, padding=1)
        x = F.gelu(x).transpose(1, 2)
        x = x + self.at("position_encodings/encodings")[: x.shape[1]]
        heard = []
        for index in range(self.layers):
            x = x + self.attend_self(x, f"layer_{index}")
            x = x + self.feed_forward(x, f"layer_{index}")
            heard.append(x)
        return [*heard[:-1], self.norm(x, "layer_norm")]


def unheard(heard: Sequence[Tensor], truth: Sequence[Tensor], real: Tensor) -> Tensor:
    """How differently Whisper hears: the share of its frames' variance that is not as it should be.

    Args:
        heard: `[B, T, D]` of each of `WhisperEar`'s blocks, with gradients.
        truth: the same of what should be heard, without.
        real: `[B, T, 1]` bool, the frames that count.

    Returns:
        Scalar: the mean of `lost_share` over `chosen_blocks`.
    """
    shares = [lost_share(heard[index], truth[index], real) for index in chosen_blocks(len(truth))]
    return torch.stack(shares).mean()


def chosen_blocks(count: int) -> list[int]:
    """Indices of the blocks, of `count`, by which hearing is compared: the last, and those two
    thirds and a third of the way to it."""
    return [number - 1 for number in sorted({count // 3, 2 * count // 3, count} - {0})]


def lost_share(heard: Tensor, truth: Tensor, real: Tensor) -> Tensor:
    """The share of one block's variance that is not as it should be: a scalar, the mean over its
    channels of the squared difference over the variance.

    Args:
        heard: `[B, T, D]`.
        truth: likewise, what should be heard.
        real: `[B, T, 1]` bool, the frames that count.
    """

    def over_frames(values: Tensor) -> Tensor:
        """Channels' means over the real frames: `[B, T, D]` to `[D]`."""
        return (values * real).sum(dim=(0, 1)) / real.sum()

    there, here = truth.float(), heard.float()
    variance = over_frames((there - over_frames(there)).square()).clamp_min(LEAST_VARIANCE)
    return (over_frames((here - there).square()) / variance).mean()


def load_ear(folder: Path) -> WhisperEar:
    """Read the encoder of a Whisper in CTranslate2's format, as `make whisper` fetches them.

    Raises:
        DataMismatch: if the folder holds none.
    """
    return WhisperEar(read_part(folder, "encoder", needed="conv1/weight"))
