"""Trained mel codecs and vocoders, to and from model folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from stages.codec.mel.config import MelCodecConfig, SourceFilterConfig, VocoderConfig
from stages.codec.mel.network import MelCodec
from stages.codec.mel.source_filter import SourceFilter
from stages.codec.mel.vocoder import Vocoder
from stages.nn.model_file import (
    load_model_file,
    load_weights,
    read_model_config,
    save_model_file,
)

CODEC_KIND = "codec"
VOCODER_KIND = "vocoder"
SOURCE_FILTER_KIND = "source-filter"


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


def save_source_filter(
    folder: Path,
    *,
    config: SourceFilterConfig,
    weights: Mapping[str, Tensor],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a source-filter's folder from a `PitchNetwork.state_dict()` (or its average)."""
    save_model_file(
        folder, kind=SOURCE_FILTER_KIND, config=config.to_json(), weights=weights, extra=extra
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


def load_source_filter(folder: Path) -> tuple[SourceFilter, str]:
    """A source-filter on the CPU, in evaluation mode, and its fingerprint.

    Raises:
        DataMismatch: if the folder holds no source-filter, or one that contradicts itself.
    """
    file = load_model_file(folder, kind=SOURCE_FILTER_KIND)
    model = SourceFilter(SourceFilterConfig.from_json(file.config, where=str(folder)))
    load_weights(model.pitch, file.weights, folder)
    return model.eval().requires_grad_(False), file.fingerprint


def load_any_vocoder(folder: Path) -> tuple[Vocoder | SourceFilter, str]:
    """What a folder holds that turns mel frames into sound, and its fingerprint.

    Raises:
        DataMismatch: if it holds neither a vocoder nor a source-filter.
    """
    if read_model_config(folder)["kind"] == SOURCE_FILTER_KIND:
        return load_source_filter(folder)
    return load_vocoder(folder)
