"""A network that moves an encoder's frames to where their units sound more like the recording.

Analysis by synthesis in one pass instead of a search: the network hears what the frames say when
they are spoken, as log-mel frames, beside the recording's own, and corrects them: one step of
iterative amortised inference (Marino et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.nn.conformer import Conformer, padding_mask
from stages.nn.model_file import ModelFile, load_model_file, load_weights
from stages.semantic.speaking import Speaker
from stages.semantic.unit_search.config import UnitNetworkConfig

_SHRUNK = 0.9
"""The cube of an encoder's points in that of moved ones."""

FARTHEST = 1 / _SHRUNK
"""That a number of a moved point gets from 0."""

_STEP = 0.3
"""Of what the network says: at the rates at which it learns, its words change by far more in a step
of training than points may."""

_WIDEST = 0.99
"""Of a number there before it is moved."""

Voice = tuple[Tensor, Tensor]
"""`[B, 1, mels]` each, as `RecordedLevels.voice`."""


@dataclass(frozen=True, kw_only=True)
class RefinerConfig(UnitNetworkConfig):
    """Shape of the network."""

    kind = "refiner"

    def build(self) -> Refiner:
        """A network of this shape, which at first moves nothing."""
        return Refiner(self)


class Refiner(nn.Module):
    """From points and what they say, and what was said, to better points."""

    def __init__(self, config: RefinerConfig) -> None:
        """Build it with random weights, but for those of how far it moves, which are zero."""
        super().__init__()
        self.config = config
        bands = config.stack * config.mels
        self.input = nn.Linear(2 * bands + config.dim, config.width)
        self.voice = nn.Linear(2 * config.mels, config.width)
        self.conformer = Conformer(config.conformer)
        self.output = nn.Linear(config.width, config.dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(
        self, points: Tensor, lengths: Tensor, said: Tensor, voice: Voice, speaker: Speaker
    ) -> Tensor:
        """Move points.

        Args:
            points: `[B, T, dim]`.
            lengths: `[B]` int64, points of each row.
            said: `[B, stack * T, mels]`, scaled log-mel frames, as `RecordedLevels.said` has them.
            voice: of the recordings.
            speaker: says what the points are.

        Returns:
            `[B, T, dim]`.
        """
        missed = speaker.scaled(points, lengths, *voice) - said
        stacked = torch.cat([said, missed], dim=-1).reshape(*points.shape[:2], -1)
        seen = self.input(torch.cat([stacked, points], dim=-1))
        seen = seen + self.voice(torch.cat(voice, dim=-1))
        hidden = self.conformer(seen, padding_mask(lengths, points.shape[1]))
        # Not far out of the cube in which an encoder's points are: there are no centroids.
        wide = torch.atanh((_SHRUNK * points).clamp(-_WIDEST, _WIDEST))
        return torch.tanh(wide + _STEP * self.output(hidden)) / _SHRUNK


def load_refiner(folder: Path) -> tuple[Refiner, RefinerConfig, ModelFile]:
    """Read a model folder of kind `refiner`.

    Raises:
        DataMismatch: if it is none, or its weights do not fit its configuration.
    """
    file = load_model_file(folder, kind=RefinerConfig.kind)
    config = RefinerConfig.from_json(file.config, where=str(folder))
    network = config.build()
    load_weights(network, file.weights, folder)
    return network.eval(), config, file
