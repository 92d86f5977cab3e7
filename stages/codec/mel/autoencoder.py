"""The mel codec's network: log-mel frames to codes and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.audio.features import LogMel
from stages.codec.mel.config import MelCodecConfig
from stages.codec.mel.convnext import ConvNeXt, frame_mask
from stages.codec.mel.quantizer import ResidualQuantizer

MEL_MEAN, MEL_SPREAD = -5.0, 2.5
"""Of the natural-log mel magnitudes of speech, roughly, so that the networks see units."""


class MelCodec(nn.Module):
    """An encoder, a residual quantiser and a decoder over log-mel frames.

    What is quantised are mel frames themselves plus a correction that the encoder has learned, and
    the decoder's output is what was quantised plus its own. Both corrections start at nothing, so
    training starts as a plain vector quantiser of mel frames. (A bottleneck of learned dimensions
    took many times as long to get as near to its input as that quantiser is at once.)

    N samples are T = ceil(N / hop) frames. Padding is silence to every row, so that a row's codes
    do not depend on its batch.
    """

    def __init__(self, config: MelCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.log_mel = LogMel(config.log_mel)
        shape = {
            "width": config.width,
            "hidden": config.hidden,
            "blocks": config.blocks,
            "kernel": config.kernel,
        }
        self.encoder = ConvNeXt(config.mels, config.mels, **shape)
        self.quantizer = ResidualQuantizer(
            config.mels,
            levels=config.levels,
            size=config.codebook_size,
            decay=config.codebook_decay,
            restart_below=config.restart_below,
        )
        self.decoder = ConvNeXt(config.mels, config.mels, **shape)
        for network in (self.encoder, self.decoder):
            nn.init.zeros_(network.last.weight)
            nn.init.zeros_(network.last.bias)

    def encode(
        self, samples: Tensor, lengths: Tensor, levels: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """`[B, N]` samples with `[B]` lengths to codes `[B, T, Q]` and `[B]` frames."""
        mel, frames = self.log_mel(samples, lengths)  # [B, T, M]
        latent = self._latent(normalise_mel(mel), frame_mask(frames, mel.shape[1]))
        return self.quantizer.encode(latent, levels), frames

    def decode(self, codes: Tensor, frames: Tensor) -> Tensor:
        """Codes `[B, T, Q]` of any leading levels, `[B]` frames, to log-mel `[B, T, M]`."""
        latent = self.quantizer.decode(codes)
        return restore_mel(self._output(latent, frame_mask(frames, codes.shape[1])))

    def _latent(self, mel: Tensor, mask: Tensor) -> Tensor:
        """What is quantised of normalised mel frames, `[B, T, M]`."""
        latent: Tensor = mel + self.encoder(mel, mask)
        return latent

    def _output(self, latent: Tensor, mask: Tensor) -> Tensor:
        """Normalised mel frames of what was quantised, `[B, T, M]`."""
        mel: Tensor = latent + self.decoder(latent, mask)
        return mel

    @torch.no_grad()
    def through(
        self, samples: Tensor, lengths: Tensor, levels: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The log-mel frames `[B, T, M]` that come out for `[B, N]` samples, and `[B]` frames.

        What a vocoder is to be tuned on, since it is what it will hear.
        """
        codes, frames = self.encode(samples, lengths, levels)
        return self.decode(codes, frames), frames

    @torch.no_grad()
    def frames_to_quantise(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """What the quantiser gets of `[B, N]` samples: the real frames of all rows, `[F, M]`."""
        mel, frames = self.log_mel(samples, lengths)
        mask = frame_mask(frames, mel.shape[1])
        return self._latent(normalise_mel(mel), mask)[mask[..., 0] > 0]

    def loss(
        self, samples: Tensor, lengths: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What training minimises: mel distance and commitment, each a mean over real frames.

        Args:
            samples: `[B, N]` float32.
            lengths: `[B]` int64.
            generator: on the CPU, for the levels that are dropped and the codes that are
                restarted; torch's own if None.

        Returns:
            The loss, and without gradients: `mel_distance` (mean absolute difference of natural
            logs), `commitment`, `codes_in_use` (share of a level's codes that the batch used,
            mean over levels), and `frames`, by which means are to be weighted.
        """
        mel, frames = self.log_mel(samples, lengths)  # [B, T, M]
        mask = frame_mask(frames, mel.shape[1])
        latent = self._latent(normalise_mel(mel), mask)
        inside = mask[..., 0] > 0
        used = self._levels_used(len(mel), generator).to(mel.device)
        quantized = self.quantizer(latent, inside, used, generator)
        error = self._output(quantized.values, mask) - normalise_mel(mel)
        count = mask.sum() * self.config.mels
        absolute = (error.abs() * mask).sum() / count
        squared = (error.square() * mask).sum() / count
        loss = absolute + squared + self.config.commitment * quantized.commitment
        codes = quantized.codes[inside]  # [N, Q]
        shares = [codes[:, level].unique().numel() for level in range(self.config.levels)]
        return loss, {
            "mel_distance": absolute.detach() * MEL_SPREAD,
            "commitment": quantized.commitment.detach(),
            "codes_in_use": torch.tensor(sum(shares) / len(shares) / self.config.codebook_size),
            "frames": mask.sum(),
        }

    def _levels_used(self, rows: int, generator: torch.Generator | None) -> Tensor:
        """`[B]`: all levels, or for a share of the examples the first n, in training."""
        Q = self.config.levels
        if not self.training:
            return torch.full((rows,), Q)
        some = torch.rand(rows, generator=generator) < self.config.level_dropout
        drawn = torch.randint(1, Q + 1, (rows,), generator=generator)
        return torch.where(some, drawn, Q)


def normalise_mel(mel: Tensor) -> Tensor:
    """Log-mel magnitudes to about zero mean and unit spread."""
    return (mel - MEL_MEAN) / MEL_SPREAD


def restore_mel(mel: Tensor) -> Tensor:
    """Undo `normalise_mel`."""
    return mel * MEL_SPREAD + MEL_MEAN
