"""SoundStorm's decoding as work to be timed: random weights of a preset's shape."""

from __future__ import annotations

import torch

from stages.nn.precision import to_precision
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.decoding import DecodeOptions, DecodeRequest, decode
from stages.soundstorm.network import SoundStorm
from stages.soundstorm.schedule import parse_iterations
from stages.speed.cells import Cell
from stages.speed.cost import soundstorm_cost
from stages.speed.products import Product, decode_products
from stages.speed.shapes import frames_of, soundstorm_shape
from stages.speed.work import Work


class Decoding(Work):
    """Rows of one length, without prompts; a step is a pass of all."""

    def __init__(self, cell: Cell, device: torch.device) -> None:
        """Make a network and what it decodes."""
        self.config = soundstorm_shape(cell.what, cell.levels)
        self.frames, self.rows = frames_of(cell.seconds), cell.batch
        self.network = random_network(self.config, cell.precision, device)
        self.iterations = parse_iterations(cell.iterations, cell.levels)
        cost = soundstorm_cost(self.config, self.frames, self.iterations)
        self.flops, self.steps = float(cost.flops * self.rows), cost.steps
        # On a CPU each row is decoded alone (`soundstorm.decoding.decode`).
        self._together = 1 if device.type == "cpu" else self.rows
        self._requests = [
            DecodeRequest(
                row_id=f"row-{row}",
                semantic=torch.arange(self.frames) % self.config.semantic_codebook_size,
                prompt=torch.zeros(0, cell.levels, dtype=torch.long),
            )
            for row in range(self.rows)
        ]

    def run(self, steps: int) -> None:
        """Decode; fewer steps are as many passes of the first level."""
        decode(self.network, self._requests, DecodeOptions(iterations=self._passes(steps)))

    def products(self, steps: int) -> list[Product]:
        return decode_products(
            self.config,
            self.frames,
            self._passes(steps),
            rows=self.rows,
            together=self._together,
        )

    def more(self, seconds: float) -> dict[str, float]:
        tokens = self.rows * self.frames * self.config.levels
        return {"tokens_per_second": tokens / seconds}

    def _passes(self, steps: int) -> tuple[int, ...]:
        return self.iterations if steps == self.steps else (steps,)


def random_network(config: SoundStormConfig, precision: str, device: torch.device) -> SoundStorm:
    """As training makes it before its first step, ready to decode."""
    torch.manual_seed(0)
    network = SoundStorm(config).eval().requires_grad_(False)
    return to_precision(network, precision, device)
