"""Trained mel codecs and vocoders, to and from model folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from stages.codec.mel.config import MelCodecConfig, VocoderConfig
from stages.codec.mel.network import MelCodec
from stages.codec.mel.vocoder import Vocoder
from stages.nn.model_file import load_model_file, load_weights, save_model_file

CODEC_KIND = "codec"
VOCODER_KIND = "vocoder"


def save_codec(
    folder: Path,
    *,
    config: MelCodecConfig,
    weights: Mapping[str, Tensor],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a codec's folder from a `MelCodec.state_dict()` (or its average)."""
    save_model_file(folder, kind=CODEC_KIND, config=config.to_json(), weights=weights, extra=extra)


def save_vocoder(
    folder: Path,
    *,
    config: VocoderConfig,
    weights: Mapping[str, Tensor],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a vocoder's folder from a `Vocoder.state_dict()` (or its average)."""
    save_model_file(
        folder, kind=VOCODER_KIND, config=config.to_json(), weights=weights, extra=extra
    )


def load_mel_codec(folder: Path) -> tuple[MelCodec, str]:
    """A codec's network on the CPU, in evaluation mode, and its fingerprint.

    Raises:
        DataMismatch: if the folder holds no codec, or one that contradicts itself.
    """
    file = load_model_file(folder, kind=CODEC_KIND)
    network = MelCodec(MelCodecConfig.from_json(file.config, where=str(folder)))
    load_weights(network, file.weights, folder)
    return network.eval().requires_grad_(False), file.fingerprint


def load_vocoder(folder: Path) -> tuple[Vocoder, str]:
    """A vocoder's network on the CPU, in evaluation mode, and its fingerprint.

    Raises:
        DataMismatch: if the folder holds no vocoder, or one that contradicts itself.
    """
    file = load_model_file(folder, kind=VOCODER_KIND)
    network = Vocoder(VocoderConfig.from_json(file.config, where=str(folder)))
    load_weights(network, file.weights, folder)
    return network.eval().requires_grad_(False), file.fingerprint
