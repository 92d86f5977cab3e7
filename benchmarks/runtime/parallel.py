"""SoundStorm: a few passes over all frames at once."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import partial

import torch

from benchmarks.runtime.autoregressive import request
from benchmarks.runtime.lines import Probe
from benchmarks.runtime.sizes import Size
from benchmarks.runtime.system import System
from stages.soundstorm.decoding import DecodeOptions, decode
from stages.soundstorm.network import SoundStorm
from stages.soundstorm.schedule import PAPER_ITERATIONS, parse_iterations
from stages.speed.clock import timed
from stages.speed.cost import Cost, soundstorm_cost
from stages.speed.lines import Line

PASSES = (1, 3)
"""Of the decodings that are measured where all passes take too long."""


class Parallel(System):
    """SoundStorm with the paper's schedule, from semantic tokens."""

    name = "soundstorm"
    label = "SoundStorm"

    def __init__(self, size: Size, device: torch.device) -> None:
        torch.manual_seed(0)
        self._size, self._device = size, device
        self._network = SoundStorm(size.soundstorm).eval().requires_grad_(False).to(device)
        self._iterations = parse_iterations(PAPER_ITERATIONS, size.soundstorm.levels)
        self.parameters = sum(p.numel() for p in self._network.parameters())

    def cost(self, seconds: Fraction) -> Cost:
        return soundstorm_cost(self._size.soundstorm, self._frames(seconds), self._iterations)

    def run(self, seconds: Fraction) -> None:
        self._decode(self._frames(seconds), self._iterations)

    def probes(self, seconds: Fraction) -> list[Probe]:
        """Decodings of the first level in a few passes, each over all frames."""
        frames = self._frames(seconds)
        return [
            Probe(
                line=f"passes over {frames} frames",
                size=passes,
                measure=partial(timed, partial(self._decode, frames, (passes,)), self._device),
            )
            for passes in PASSES
        ]

    def predict(self, lines: Mapping[str, Line], seconds: Fraction) -> float:
        line = lines[f"passes over {self._frames(seconds)} frames"]
        return line.at(self.cost(seconds).steps)

    def _decode(self, frames: int, iterations: tuple[int, ...]) -> None:
        decode(self._network, [request(self._size, frames)], DecodeOptions(iterations=iterations))

    def _frames(self, seconds: Fraction) -> int:
        return int(seconds * self._size.tokens["acoustic"].frame_rate)
