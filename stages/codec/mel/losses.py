"""What the vocoder is trained on: spectra at several sizes, and discriminators."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.audio.features import LogMel, LogMelConfig

Maps = Sequence[Sequence[Tensor]]
"""Feature maps by discriminator and layer."""

SIZES = ((256, 32), (512, 64), (1024, 100), (2048, 128))
"""Samples of each analysis window, and its mel bands."""


class SpectralLoss(nn.Module):
    """Distances between log-mel and linear spectra of real and made samples at several sizes."""

    def __init__(self, sample_rate: int, sizes: Sequence[tuple[int, int]] = SIZES) -> None:
        super().__init__()
        self.features = nn.ModuleList(
            LogMel(
                LogMelConfig(
                    sample_rate=sample_rate, hop=size // 4, window=size, fft=size, mels=mels
                )
            )
            for size, mels in sizes
        )

    def forward(self, real: Tensor, made: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Compare `[B, N]` samples with `[B]` lengths.

        Returns:
            `mel`: mean absolute difference of log-mel frames, mean over sizes; `magnitude`: the
            norm of the difference of linear magnitudes over that of the real ones, likewise.
        """
        mel = magnitude = real.new_zeros(())
        for features in self.features:
            assert isinstance(features, LogMel)
            theirs = features.magnitudes(real, lengths)  # [B, T, F]
            ours = features.magnitudes(made, lengths)
            difference = (features.log_mel(theirs) - features.log_mel(ours)).abs()
            frames = features.frames(lengths)
            inside = torch.arange(theirs.shape[1], device=real.device) < frames[:, None]
            mel = mel + difference.mean(dim=-1)[inside].mean()
            scale = theirs[inside].norm().clamp_min(1e-5)
            magnitude = magnitude + (theirs[inside] - ours[inside]).norm() / scale
        return {"mel": mel / len(self.features), "magnitude": magnitude / len(self.features)}


def build_discriminators(
    *, filters: int = 32, sizes: Sequence[int] = (1024, 2048, 512)
) -> nn.Module:
    """EnCodec's multi-scale STFT discriminators: `[B, 1, N]` to logits and feature maps.

    Args:
        filters: channels of their convolutions.
        sizes: samples of the Fourier transforms, the hop being a quarter.
    """
    from encodec.msstftd import MultiScaleSTFTDiscriminator

    with warnings.catch_warnings():
        # The package still uses the older of torch's weight normalisations.
        warnings.simplefilter("ignore", FutureWarning)
        discriminators: nn.Module = MultiScaleSTFTDiscriminator(
            filters=filters,
            n_ffts=list(sizes),
            hop_lengths=[size // 4 for size in sizes],
            win_lengths=list(sizes),
        )
    return discriminators


def discriminator_loss(real: Sequence[Tensor], made: Sequence[Tensor]) -> Tensor:
    """Hinge loss of the discriminators' logits (EnCodec, equation 3)."""
    terms = [
        F.relu(1 - theirs).mean() + F.relu(1 + ours).mean()
        for theirs, ours in zip(real, made, strict=True)
    ]
    return torch.stack(terms).mean()


def adversarial_losses(
    made: Sequence[Tensor], real_maps: Maps, made_maps: Maps
) -> dict[str, Tensor]:
    """The vocoder's side: `adversarial` (hinge) and `features` (EnCodec, equation 2).

    Args:
        made: logits of made samples.
        real_maps: feature maps of real samples, as targets.
        made_maps: feature maps of made samples.
    """
    adversarial = torch.stack([F.relu(1 - logits).mean() for logits in made]).mean()
    distances = [
        F.l1_loss(ours, theirs.detach()) / theirs.detach().abs().mean().clamp_min(1e-5)
        for theirs_of, ours_of in zip(real_maps, made_maps, strict=True)
        for theirs, ours in zip(theirs_of, ours_of, strict=True)
    ]
    return {"adversarial": adversarial, "features": torch.stack(distances).mean()}


class Balancer(nn.Module):
    """Makes each loss's share of the gradient its weight, however large it is (EnCodec, 3.4).

    It gives a surrogate whose gradient is the balanced one, so that any loop can call `backward`;
    its running norms are buffers, so that a resumed run goes on as it was. A norm that is no finite
    number is not taken into them.
    """

    def __init__(self, weights: Mapping[str, float], *, decay: float = 0.99) -> None:
        super().__init__()
        self.weights, self.decay = dict(weights), decay
        for name in weights:
            self.register_buffer(f"norm_{name}", torch.zeros(()))

    def forward(self, losses: Mapping[str, Tensor], output: Tensor) -> Tensor:
        """Balance losses that all depend on `output` alone.

        Args:
            losses: scalars by name, each a name of `weights`; those that are absent (before the
                discriminators' time) leave their share to the others.
            output: what the network made, `[B, N]`, still attached to it.

        Returns:
            A scalar without meaning of its own, for `backward`.
        """
        total = sum(self.weights[name] for name in losses)
        balanced = torch.zeros_like(output)
        for name, loss in losses.items():
            (gradient,) = torch.autograd.grad(loss, output, retain_graph=True)
            norm = gradient.flatten(1).norm(dim=1).mean()
            running: Tensor = getattr(self, f"norm_{name}")
            with torch.no_grad():
                if self.training and norm.isfinite():
                    running.copy_(norm if running == 0 else running.lerp(norm, 1 - self.decay))
                scale = running if running > 0 else norm
            balanced = balanced + self.weights[name] / total * gradient / scale.clamp_min(1e-12)
        return (output * balanced.detach()).sum() / len(output)
