"""What a bottleneck is trained with: a second network that makes its points sound again.

Noise as wide as a k-means cell stands in place of the rounding (Ballé et al. 2017).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stages.semantic.bottleneck import Bottleneck, BottleneckConfig
from stages.semantic.speaking import Speaker, SpokenSums, record
from stages.semantic.whisper_ear import WhisperEar, WhisperMel


class SpokenBottleneck(Bottleneck):
    """The encoder and what training adds to it."""

    def __init__(self, config: BottleneckConfig, *, mels: int = 80) -> None:
        """Build it; `mels` are the bands that the teacher reads."""
        super().__init__(config)
        self.levels = WhisperMel(mels)
        shape = replace(config.conformer, layers=config.speaker_layers)
        self.speaker = Speaker(shape, dim=config.dim, stack=config.stack, mels=mels)

    def loss(
        self,
        samples: Tensor,
        lengths: Tensor,
        *,
        ear: WhisperEar,
        hearing_weight: float,
        generator: torch.Generator | None,
    ) -> SpokenSums:
        """Compare what is spoken of the points with the recording.

        Args:
            samples: `[B, N]` float32 on the network's device, 0 at padding.
            lengths: `[B]` int64, samples of each row, on the same device.
            ear: the teacher.
            hearing_weight: of what the teacher hears against the log-mel frames themselves.
            generator: a CPU generator of the noise; None adds none.
        """
        points, counts = self.points(samples, lengths)
        if generator is not None:
            noise = torch.rand(points.shape, generator=generator) - 0.5
            points = points + self.config.noise_width * noise.to(points.device)
        return self.speaker.loss(
            points,
            counts,
            record(self.levels, samples, lengths),
            ear=ear,
            hearing_weight=hearing_weight,
        )
