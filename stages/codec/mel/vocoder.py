"""A neural vocoder on short-time Fourier frames, after Vocos (Siuzdak, 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.codec.mel.config import VocoderConfig
from stages.codec.mel.convnext import ConvNeXt, frame_mask
from stages.codec.mel.network import normalise_mel

MAX_LOG_MAGNITUDE = 6.0
"""Keeps an untrained network's exponentials finite; full-scale sound stays under it."""


class Vocoder(nn.Module):
    """ConvNeXt blocks over mel frames, then magnitudes and phases, then their inverse transform.

    T frames give T x hop samples.
    """

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        bins = config.fft // 2 + 1
        self.backbone = ConvNeXt(
            config.mels,
            2 * bins,
            width=config.width,
            hidden=config.hidden,
            blocks=config.blocks,
            kernel=config.kernel,
        )
        self.inverse = InverseSTFT(config.fft, config.hop)

    def forward(self, mel: Tensor, frames: Tensor | None = None) -> Tensor:
        """Turn log-mel frames into sound.

        Args:
            mel: `[B, T, M]`, natural logs.
            frames: `[B]` int64, frames of each row; None if all are T.

        Returns:
            Samples `[B, T x hop]`, zero at or past a row's length.
        """
        B, T, _ = mel.shape
        if frames is None:
            frames = torch.full((B,), T, device=mel.device)
        mask = frame_mask(frames, T)
        log_magnitude, phase = self.backbone(normalise_mel(mel), mask).chunk(2, dim=-1)
        magnitude = log_magnitude.clamp_max(MAX_LOG_MAGNITUDE).exp()  # [B, T, F]
        samples: Tensor = self.inverse(torch.polar(magnitude, phase), mask)
        inside = mask.expand(B, T, self.config.hop).reshape(B, -1)  # [B, T x hop]
        return samples * inside


class InverseSTFT(nn.Module):
    """Overlap-add of windowed inverse transforms: `[B, T, F]` complex to `[B, T x hop]`.

    Frame t is centred on the middle of samples [t x hop, (t + 1) x hop), as the mel frames are.
    """

    window: Tensor

    def __init__(self, fft: int, hop: int) -> None:
        super().__init__()
        self.fft, self.hop = fft, hop
        self.register_buffer("window", torch.hann_window(fft), persistent=False)

    def forward(self, spectrum: Tensor, mask: Tensor) -> Tensor:
        """Invert `[B, T, F]`, of which the frames are real where `mask` `[B, T, 1]` is 1."""
        pieces = torch.fft.irfft(spectrum, self.fft, dim=-1) * self.window  # [B, T, fft]
        # A row's last frames overlap with nothing, however long its neighbours are.
        weights = self.window.square() * mask  # [B, T, fft]
        return self._overlap(pieces * mask) / self._overlap(weights).clamp_min(1e-3)

    def _overlap(self, pieces: Tensor) -> Tensor:
        """`[B, T, fft]` to `[B, T x hop]`."""
        total = (pieces.shape[1] - 1) * self.hop + self.fft
        added = F.fold(
            pieces.transpose(1, 2),
            output_size=(1, total),
            kernel_size=(1, self.fft),
            stride=(1, self.hop),
        )[:, 0, 0]
        edge = (self.fft - self.hop) // 2
        return added[:, edge : total - edge]
