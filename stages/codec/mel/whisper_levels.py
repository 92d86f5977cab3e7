"""What Whisper would read of a mel codec's frames, without making them sound."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.audio.features import LogMel
from stages.codec.mel.config import MelGeometry
from stages.errors import DataMismatch
from stages.semantic.whisper_ear import FFT, HOP, SAMPLE_RATE, compress, whisper_filters


class WhisperLevels(nn.Module):
    """From a codec's log-mel frames to Whisper's, nearly as of the sound of them; gradients pass.

    A band's magnitude is spread evenly over its bins, and what a window of Fourier bins hears of
    noise is scaled to Whisper's shorter window.

    Raises:
        DataMismatch: if frames do not lie a whole number of Whisper's apart.
    """

    spread: Tensor
    filters: Tensor

    def __init__(self, geometry: MelGeometry, mels: int) -> None:
        super().__init__()
        if geometry.sample_rate != SAMPLE_RATE or geometry.hop % HOP:
            raise DataMismatch(
                f"Whisper hears frames of {SAMPLE_RATE} Hz every {HOP} samples, and the codec's, "
                f"of {geometry.sample_rate} Hz every {geometry.hop}, are no multiples of them"
            )
        self.times = geometry.hop // HOP
        log_mel = LogMel(geometry.log_mel)
        bins = log_mel.filters  # [F, M]
        spread = (bins / bins.sum(dim=1, keepdim=True).clamp_min(1e-8) / bins.sum(dim=0)).T
        energy = torch.hann_window(FFT).square().sum() / log_mel.window.square().sum()
        self.register_buffer("spread", spread.contiguous(), persistent=False)  # [M, F]
        filters = energy * whisper_filters(len(bins), mels)
        self.register_buffer("filters", filters, persistent=False)  # [F, mels]

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel magnitudes `[B, T, M]` to log-mel levels `[B, times * T, mels]`, not yet cut
        at a row's floor (`whisper_ear.floor_of`)."""
        finer = F.interpolate(mel.transpose(1, 2), scale_factor=float(self.times), mode="linear")
        # Whisper's frames are centred on multiples of the hop, and these half a hop later.
        before = F.pad(finer, (1, 0), mode="replicate")[..., :-1]
        bands = ((finer + before) / 2).transpose(1, 2).exp()
        with torch.autocast(mel.device.type, enabled=False):
            return compress((bands.float() @ self.spread).square() @ self.filters)
