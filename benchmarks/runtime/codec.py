"""The codec that ships: from acoustic tokens to sound."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import partial

import torch

from benchmarks.runtime.lines import Probe
from benchmarks.runtime.system import System
from stages.assets import MINI, model_folder
from stages.codec.base import AcousticTokens
from stages.codec.mel.config import MelCodecConfig
from stages.codec.registry import load_codec
from stages.nn.model_file import read_model_config
from stages.speed.clock import timed
from stages.speed.codec_cost import mel_decoder_cost, own_sound, sound_cost
from stages.speed.cost import BYTES, Cost
from stages.speed.lines import Line

PROBE_SECONDS = (1, 2)
"""Of audio."""


class MiniCodec(System):
    """The codec `mini`, whose time is the same for all sizes of model."""

    name = "codec"
    label = "codec's decoding"

    def __init__(self, device: torch.device) -> None:
        folder = model_folder(MINI, "codec")
        self._codec = load_codec(MINI, device=str(device))
        self._device = device
        document = read_model_config(folder, kind="codec")
        self._config = MelCodecConfig.from_json(document["config"], where=str(folder))
        self._sound = own_sound(folder, self._config.geometry)
        decoder = mel_decoder_cost(self._config, 1).weight_bytes // BYTES
        self.parameters = decoder + sum(p.numel() for p in self._sound.parameters())

    def cost(self, seconds: Fraction) -> Cost:
        frames = self._frames(seconds)
        return mel_decoder_cost(self._config, frames) + sound_cost(self._sound, frames)

    def run(self, seconds: Fraction) -> None:
        self._decode(self._frames(seconds))

    def probes(self, seconds: Fraction) -> list[Probe]:
        """Short rows: time grows with the frames, of which each costs the same."""
        del seconds
        frames = [self._frames(Fraction(some)) for some in PROBE_SECONDS]
        return [
            Probe(
                line="frames",
                size=count,
                measure=partial(timed, partial(self._decode, count), self._device),
            )
            for count in frames
        ]

    def predict(self, lines: Mapping[str, Line], seconds: Fraction) -> float:
        return lines["frames"].at(self._frames(seconds))

    def _decode(self, frames: int) -> None:
        codec = self._codec
        generator = torch.Generator().manual_seed(0)
        shape = (1, frames, codec.levels)
        codes = torch.randint(codec.codebook_size, shape, generator=generator)
        codec.decode(AcousticTokens(codes=codes, lengths=torch.tensor([frames])))

    def _frames(self, seconds: Fraction) -> int:
        return int(seconds * self._codec.frame_rate)
