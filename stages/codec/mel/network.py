"""The mel codec's network: log-mel frames to codes and back."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import Tensor, nn

from stages.audio.features import LogMel
from stages.codec.mel.config import MelCodecConfig
from stages.codec.mel.convnext import ConvNeXt, frame_mask
from stages.codec.mel.quantizer import ResidualQuantizer

MEL_MEAN, MEL_SPREAD = -5.0, 2.5
"""Of the natural-log mel magnitudes of speech, roughly, so that the networks see units."""


class MelCodec(nn.Module):
    """A residual quantiser of log-mel frames, and a decoder that mends what it gives back.

    The codes are k-means' and stay (`docs/training.md` says what moving them gave); the decoder
    adds a correction to the quantised frames, which starts at nothing.

    N samples are T = ceil(N / hop) frames. Padding is silence to every row, so that a row's codes
    do not depend on its batch.
    """

    def __init__(self, config: MelCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.log_mel = LogMel(config.log_mel)
        self.quantizer = ResidualQuantizer(
            config.mels, levels=config.levels, size=config.codebook_size
        )
        self.decoder = ConvNeXt(
            config.mels,
            config.mels,
            width=config.width,
            hidden=config.hidden,
            blocks=config.blocks,
            kernel=config.kernel,
        )
        nn.init.zeros_(self.decoder.last.weight)
        nn.init.zeros_(self.decoder.last.bias)

    def token_fingerprint(self) -> str:
        """SHA-256 hex of all that decides a code: the frames' geometry and the codebooks."""
        digest = hashlib.sha256()
        digest.update(json.dumps(self.config.geometry.to_json(), sort_keys=True).encode())
        digest.update(str(tuple(self.quantizer.codebooks.shape)).encode())
        digest.update(self.quantizer.codebooks.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def encode(
        self, samples: Tensor, lengths: Tensor, levels: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """`[B, N]` samples with `[B]` lengths to codes `[B, T, Q]` and `[B]` frames."""
        mel, frames = self.log_mel(samples, lengths)  # [B, T, M]
        return self.quantizer.encode(normalise_mel(mel), levels), frames

    def decode(self, codes: Tensor, frames: Tensor) -> Tensor:
        """Codes `[B, T, Q]` of any leading levels, `[B]` frames, to log-mel `[B, T, M]`."""
        return self.restore(self.quantizer.decode(codes), frames)

    def restore(self, quantised: Tensor, frames: Tensor) -> Tensor:
        """Sums of codebook entries `[B, T, M]`, `[B]` frames, to log-mel `[B, T, M]`."""
        return restore_mel(self._mend(quantised, frame_mask(frames, quantised.shape[1])))

    def _mend(self, quantised: Tensor, mask: Tensor) -> Tensor:
        """Normalised mel frames of what was quantised, `[B, T, M]`."""
        mel: Tensor = quantised + self.decoder(quantised, mask)
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
        inside = frame_mask(frames, mel.shape[1])[..., 0] > 0
        return normalise_mel(mel)[inside]

    def loss(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What training minimises: the mean distance of log-mel frames, in nats.

        Args:
            samples: `[B, N]` float32.
            lengths: `[B]` int64.

        Returns:
            The loss, and without gradients: `codes_in_use` (share of a level's codes that the
            batch used, mean over levels), and `frames`, by which means are to be weighted.
        """
        mel, frames = self.log_mel(samples, lengths)  # [B, T, M]
        mel = normalise_mel(mel)
        mask = frame_mask(frames, mel.shape[1])
        with torch.no_grad():
            codes = self.quantizer.encode(mel)  # [B, T, Q]
            quantised = self.quantizer.decode(codes)
        error = (self._mend(quantised, mask) - mel).abs() * mask
        used = codes[mask[..., 0] > 0]  # [N, Q]
        shares = [
            int(used[:, level].bincount().count_nonzero()) for level in range(self.config.levels)
        ]
        return error.sum() / (mask.sum() * self.config.mels) * MEL_SPREAD, {
            "codes_in_use": torch.tensor(sum(shares) / len(shares) / self.config.codebook_size),
            "frames": mask.sum(),
        }


def normalise_mel(mel: Tensor) -> Tensor:
    """Log-mel magnitudes to about zero mean and unit spread."""
    return (mel - MEL_MEAN) / MEL_SPREAD


def restore_mel(mel: Tensor) -> Tensor:
    """Undo `normalise_mel`."""
    return mel * MEL_SPREAD + MEL_MEAN
