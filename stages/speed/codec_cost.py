"""What turning tokens into sound costs: the counterpart of `cost` for the toolkit's own codec."""

from __future__ import annotations

import math
from pathlib import Path

from stages.codec.mel.codec import OWN_VOCODER
from stages.codec.mel.config import (
    MelCodecConfig,
    MelGeometry,
    SourceFilterConfig,
    VocoderConfig,
)
from stages.codec.mel.griffin_lim import ITERATIONS, GriffinLim
from stages.codec.mel.mel_bands import finer_frames
from stages.codec.mel.model import load_any_vocoder
from stages.codec.mel.pitch import POINTS, candidates
from stages.codec.mel.source_filter import SOURCE_SCALINGS, TURNS, SourceFilter
from stages.codec.mel.vocoder import Vocoder
from stages.nn.model_file import CONFIG_NAME
from stages.speed.cost import BYTES, Cost, linear_flops, linear_weights

SCALINGS = SOURCE_SCALINGS + TURNS
"""Of a source-filter's Fourier frames to mel bands: its source's, and one a turn."""

Sound = GriffinLim | Vocoder | SourceFilter
"""What turns a codec's mel frames into samples."""


def own_sound(codec: Path, geometry: MelGeometry) -> Sound:
    """The vocoder inside a codec's folder, or Griffin-Lim where there is none."""
    folder = codec / OWN_VOCODER
    if (folder / CONFIG_NAME).exists():
        return load_any_vocoder(folder)[0]
    return GriffinLim(geometry)


def convnext_flops(
    frames: int, inputs: int, outputs: int, *, width: int, hidden: int, blocks: int, kernel: int
) -> int:
    """Of `stages.codec.mel.convnext.ConvNeXt` over one row."""
    block = (
        2 * frames * width * kernel  # depthwise
        + linear_flops(frames, width, hidden)
        + linear_flops(frames, hidden, width)
    )
    first = linear_flops(frames, kernel * inputs, width)
    return first + blocks * block + linear_flops(frames, width, outputs)


def convnext_weights(
    inputs: int, outputs: int, *, width: int, hidden: int, blocks: int, kernel: int
) -> int:
    """Numbers in a `ConvNeXt`."""
    block = (
        (kernel + 1) * width
        + linear_weights(width, hidden)
        + linear_weights(hidden, width)
        + 2 * width  # norm
        + width  # scale
    )
    first = linear_weights(kernel * inputs, width) + 2 * width
    return first + blocks * block + 2 * width + linear_weights(width, outputs)


def fourier_flops(size: int) -> int:
    """Of a real transform of `size` samples: half of 5 n log2 n, the usual count."""
    return round(2.5 * size * math.log2(size))


def griffin_lim_cost(geometry: MelGeometry, frames: int, *, fourier: bool = True) -> Cost:
    """Of `stages.codec.mel.griffin_lim.GriffinLim` over one row.

    Args:
        geometry: of the mel frames.
        frames: T.
        fourier: whether to count Fourier transforms, which `FlopCounterMode` does not.
    """
    bins, mels = geometry.window // 2 + 1, geometry.mels
    count = finer_frames(geometry) * frames + 2
    scaling = linear_flops(count, bins, mels) + linear_flops(count, mels, bins)
    transforms = (2 * ITERATIONS + 1) * count
    return Cost(
        steps=ITERATIONS,
        flops=linear_flops(count, mels, bins)
        + ITERATIONS * scaling
        + (transforms * fourier_flops(geometry.window) if fourier else 0),
        weight_bytes=BYTES * (2 * ITERATIONS + 1) * bins * mels,
        cache_bytes=0,
    )


def vocoder_cost(config: VocoderConfig, frames: int, *, fourier: bool = True) -> Cost:
    """Of `stages.codec.mel.vocoder.Vocoder`; arguments as in `griffin_lim_cost`."""
    shape = {
        "width": config.width,
        "hidden": config.hidden,
        "blocks": config.blocks,
        "kernel": config.kernel,
    }
    outputs = config.fft + 2  # a magnitude and a phase a bin
    transforms = frames * fourier_flops(config.fft) if fourier else 0
    return Cost(
        steps=1,
        flops=convnext_flops(frames, config.mels, outputs, **shape) + transforms,
        weight_bytes=BYTES * convnext_weights(config.mels, outputs, **shape),
        cache_bytes=0,
    )


def source_filter_cost(config: SourceFilterConfig, frames: int, *, fourier: bool = True) -> Cost:
    """Of `stages.codec.mel.source_filter.SourceFilter`; arguments as in `griffin_lim_cost`."""
    shape = {
        "width": config.width,
        "hidden": config.hidden,
        "blocks": config.blocks,
        "kernel": config.kernel,
    }
    outputs = POINTS * (candidates(config) + 1)  # of each point the pitches, and if there is one
    bins, mels = config.window // 2 + 1, config.mels
    count = finer_frames(config) * frames + 2
    scaling = linear_flops(count, bins, mels) + linear_flops(count, mels, bins)
    transforms = (2 + 2 * TURNS + 1) * count  # pulses and noise, turns, the last inverse
    return Cost(
        steps=1 + TURNS,  # the pitch first
        flops=convnext_flops(frames, mels, outputs, **shape)
        + SCALINGS * scaling
        + (transforms * fourier_flops(config.window) if fourier else 0),
        weight_bytes=BYTES
        * (convnext_weights(mels, outputs, **shape) + 2 * SCALINGS * bins * mels),
        cache_bytes=0,
    )


def sound_cost(sound: Sound, frames: int, *, fourier: bool = True) -> Cost:
    """Of whichever it is; arguments as in `griffin_lim_cost`."""
    if isinstance(sound, GriffinLim):
        return griffin_lim_cost(sound.geometry, frames, fourier=fourier)
    if isinstance(sound, Vocoder):
        return vocoder_cost(sound.config, frames, fourier=fourier)
    return source_filter_cost(sound.config, frames, fourier=fourier)


def mel_decoder_cost(config: MelCodecConfig, frames: int) -> Cost:
    """Of `stages.codec.mel.network.MelCodec.decode` over one row."""
    shape = {
        "width": config.width,
        "hidden": config.hidden,
        "blocks": config.blocks,
        "kernel": config.kernel,
    }
    return Cost(
        steps=1,
        flops=convnext_flops(frames, config.mels, config.mels, **shape),
        weight_bytes=BYTES * convnext_weights(config.mels, config.mels, **shape),
        cache_bytes=0,
    )


def mel_encoder_cost(
    config: MelCodecConfig, frames: int, levels: int, *, fourier: bool = True
) -> Cost:
    """Of `stages.codec.mel.network.MelCodec.encode` over one row, for the first Q levels.

    Args:
        config: the codec's.
        frames: T.
        levels: Q.
        fourier: as in `griffin_lim_cost`.
    """
    bins, mels = config.window // 2 + 1, config.mels
    distances = linear_flops(frames, mels, config.codebook_size)
    transforms = frames * fourier_flops(config.window) if fourier else 0
    return Cost(
        steps=levels,
        flops=linear_flops(frames, bins, mels) + levels * distances + transforms,
        weight_bytes=BYTES * (bins * mels + levels * config.codebook_size * mels),
        cache_bytes=0,
    )
