"""A tiny codec of our own with random weights, quick enough for every test of a stage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stages.codec.mel.config import MelCodecConfig, VocoderConfig
from stages.codec.mel.model import save_codec, save_vocoder
from stages.codec.mel.network import MelCodec
from stages.codec.mel.vocoder import Vocoder

TINY = {"width": 16, "hidden": 16, "blocks": 1, "kernel": 3}
MELS = 20


@pytest.fixture(scope="session")
def tiny_config() -> MelCodecConfig:
    return MelCodecConfig(**TINY, mels=MELS, levels=3, codebook_size=32)


@pytest.fixture(scope="session")
def tiny_codec(tmp_path_factory: pytest.TempPathFactory, tiny_config: MelCodecConfig) -> Path:
    """A model folder with a codec of 3 levels of 32 and a vocoder inside. Do not change it."""
    folder = tmp_path_factory.mktemp("codecs") / "tiny"
    torch.manual_seed(0)
    network = MelCodec(tiny_config)
    noise = torch.randn(2, 16_000), torch.tensor([16_000, 16_000])
    network.quantizer.start(network.frames_to_quantise(*noise))
    save_codec(folder, config=tiny_config, weights=network.state_dict())
    config = VocoderConfig(**TINY, mels=MELS, fft=640)
    save_vocoder(folder / "vocoder", config=config, weights=Vocoder(config).state_dict())
    return folder
