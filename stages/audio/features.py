"""Log-mel spectrograms with an exact rule for the number of frames."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import DataMismatch


@dataclass(frozen=True, kw_only=True)
class LogMelConfig:
    """Geometry of a log-mel spectrogram."""

    sample_rate: int = 16_000
    """Hz."""

    hop: int = 320
    """Samples from one frame to the next."""

    window: int = 1024
    """Samples of the Hann window; at least `hop`."""

    fft: int = 1024
    """Samples of the Fourier transform; at least `window`."""

    mels: int = 100
    """Bands, on Slaney's mel scale with filters of equal area."""

    low: float = 0.0
    """Hz, lower edge of the lowest band."""

    high: float | None = None
    """Hz, upper edge of the highest band; None for half the sample rate."""

    floor: float = 1e-5
    """Magnitude under which the logarithm is cut, so that digital silence is finite."""

    def __post_init__(self) -> None:
        if not 0 < self.hop <= self.window <= self.fft:
            raise DataMismatch(
                f"a log-mel spectrogram needs 0 < hop <= window <= fft, not {self.hop}, "
                f"{self.window}, {self.fft}"
            )
        high = self.sample_rate / 2 if self.high is None else self.high
        if not 0 <= self.low < high <= self.sample_rate / 2:
            raise DataMismatch(
                f"mel bands from {self.low} to {high} Hz do not fit a rate of {self.sample_rate} Hz"
            )
        if self.mels < 1 or self.floor <= 0:
            raise DataMismatch("a log-mel spectrogram needs at least one band and a floor over 0")

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second, exact."""
        return Fraction(self.sample_rate, self.hop)


class LogMel(nn.Module):
    """Waveforms to natural-log mel magnitudes.

    N samples give T = ceil(N / hop) frames. Frame t is centred on the middle of the samples
    [t * hop, (t + 1) * hop), as tokens are (frame t covers that span); outside an utterance there
    is silence, whatever its neighbours in the batch are.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(config.window), persistent=False)
        self.register_buffer("filters", mel_filters(config), persistent=False)

    def frames(self, lengths: Tensor) -> Tensor:
        """Frames of utterances of `lengths` samples: `[B]` int64."""
        return -(-lengths // self.config.hop)

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features.

        Args:
            samples: `[B, N]` float32; what lies at or past a row's length does not matter.
            lengths: `[B]` int64, samples of each row.

        Returns:
            `[B, T, mels]` float32, frames past a row's length at the floor, and `[B]` frames.
        """
        magnitudes = self.magnitudes(samples, lengths)  # [B, T, fft / 2 + 1]
        return self.log_mel(magnitudes), self.frames(lengths)

    def magnitudes(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """Magnitudes of the short-time Fourier transform: `[B, N]` to `[B, T, fft / 2 + 1]`."""
        config = self.config
        inside = torch.arange(samples.shape[1], device=samples.device) < lengths[:, None]
        samples = samples * inside  # [B, N]
        total = -(-samples.shape[1] // config.hop) * config.hop
        left = (config.fft - config.hop) // 2
        right = config.fft - config.hop - left + total - samples.shape[1]
        spectrum = torch.stft(
            F.pad(samples, (left, right)),
            config.fft,
            hop_length=config.hop,
            win_length=config.window,
            window=self.window,
            center=False,
            return_complex=True,
        )  # [B, fft / 2 + 1, T]
        return spectrum.abs().transpose(1, 2)

    def log_mel(self, magnitudes: Tensor) -> Tensor:
        """Magnitudes `[..., fft / 2 + 1]` to natural-log mel bands `[..., mels]`."""
        with torch.autocast(magnitudes.device.type, enabled=False):  # bfloat16 would be heard
            return (magnitudes @ self.filters).clamp_min(self.config.floor).log()


def mel_filters(config: LogMelConfig) -> Tensor:
    """The filter bank, `[fft / 2 + 1, mels]`.

    Raises:
        DataMismatch: if a band is so narrow that no Fourier bin falls into it.
    """
    import warnings

    from torchaudio.functional import melscale_fbanks

    high = config.sample_rate / 2 if config.high is None else config.high
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its warning of empty bands is the error below
        filters: Any = melscale_fbanks(
            config.fft // 2 + 1,
            config.low,
            high,
            config.mels,
            config.sample_rate,
            norm="slaney",
            mel_scale="slaney",
        )
    if bool((filters.sum(dim=0) == 0).any()):
        raise DataMismatch(
            f"{config.mels} mel bands are too many for {config.fft} Fourier samples: some would be "
            "empty"
        )
    bank: Tensor = filters
    return bank
