"""BEST-RQ: speech learnt by predicting random codes of what is masked (Chiu et al. 2022).

Normalised log-mel frames, stacked to the token rate, are the input of a Conformer. A projection
and a codebook that are drawn once and never trained turn each unmasked stack into a code; spans
of the input are replaced by noise, and the network predicts the codes of what was there. A middle
layer of the trained network is a semantic encoder, at w2v-BERT's 25 Hz (paper, section 4.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.audio.features import LogMel, LogMelConfig
from stages.errors import DataMismatch
from stages.nn.conformer import Conformer, ConformerConfig, padding_mask
from stages.nn.model_file import ModelFile, load_model_file, save_model_file

KIND = "best-rq"


@dataclass(frozen=True, kw_only=True)
class BestRQConfig:
    """Shape of a BEST-RQ network and of its task; defaults follow Chiu et al. 2022, section 4."""

    layers: int
    """Conformer blocks."""

    heads: int
    """Attention heads."""

    width: int
    """D, width of the Conformer."""

    feed_forward: int
    """Inner width of the feed-forward modules."""

    kernel: int = 5
    """Frames that the depthwise convolution sees."""

    dropout: float = 0.1

    sample_rate: int = 16_000
    """Hz."""

    mels: int = 80
    """Bands of a log-mel frame of 10 ms."""

    stack: int = 4
    """Log-mel frames to one frame of the network: 4 give 25 Hz, 2 give 50 Hz."""

    codebook_size: int = 8192
    """Entries of the random codebook."""

    codebook_width: int = 16
    """Dimensions that the random projection leaves."""

    codebook_seed: int = 0
    """Of the projection and the codebook, which training never changes."""

    mask_probability: float = 0.04
    """That a masked span begins at a frame: 0.01 for each 10 ms."""

    mask_seconds: float = 0.4
    """Length of a masked span; spans may overlap."""

    noise: float = 0.1
    """Standard deviation of what stands in a masked span."""

    def __post_init__(self) -> None:
        if min(self.mels, self.stack, self.codebook_size, self.codebook_width) < 1:
            raise DataMismatch("a BEST-RQ network needs at least one band, frame, code and width")
        if not 0 < self.mask_probability < 1 or self.mask_frames < 1:
            raise DataMismatch(
                f"masked spans of {self.mask_seconds} s that begin with probability "
                f"{self.mask_probability} cannot be drawn: use a probability between 0 and 1 and "
                f"at least {float(1 / self.frame_rate)} s"
            )
        _ = self.conformer, self.mel  # checks the rest

    @property
    def conformer(self) -> ConformerConfig:
        return ConformerConfig(
            layers=self.layers,
            heads=self.heads,
            width=self.width,
            feed_forward=self.feed_forward,
            kernel=self.kernel,
            dropout=self.dropout,
        )

    @property
    def mel(self) -> LogMelConfig:
        hop = self.sample_rate // 100
        return LogMelConfig(
            sample_rate=self.sample_rate,
            hop=hop,
            window=5 * hop // 2,  # 25 ms
            fft=1 << (5 * hop // 2 - 1).bit_length(),
            mels=self.mels,
        )

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second of the network, exact."""
        return Fraction(self.sample_rate, self.sample_rate // 100 * self.stack)

    @property
    def mask_frames(self) -> int:
        """Frames of a masked span."""
        return round(self.mask_seconds * self.frame_rate)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> BestRQConfig:
        """Read what `to_json` wrote.

        Raises:
            DataMismatch: if a field is missing, unknown or out of range.
        """
        known = {item.name for item in fields(BestRQConfig)}
        needed = {item.name for item in fields(BestRQConfig) if item.default is MISSING}
        wrong = (set(value) - known) | (needed - set(value))
        if wrong:
            raise DataMismatch(
                f"a BEST-RQ configuration misses or does not know {', '.join(sorted(wrong))}"
            )
        return BestRQConfig(**value)


@dataclass(frozen=True, kw_only=True)
class BestRQSums:
    """Sums over masked frames, row by row; they add up over batches and processes."""

    loss: Tensor
    """`[B]` float32: cross-entropy in nats, with gradients."""

    frames: Tensor
    """`[B]` int64: masked frames."""

    correct: Tensor
    """`[B]` int64: masked frames whose likeliest code is the true one."""

    @property
    def mean(self) -> Tensor:
        """Loss a masked frame; 0 without any."""
        return self.loss.sum() / self.frames.sum().clamp(min=1)


class BestRQ(nn.Module):
    """The network, its features and its random quantiser."""

    projection: Tensor
    codebook: Tensor

    def __init__(self, config: BestRQConfig) -> None:
        super().__init__()
        self.config = config
        size = config.stack * config.mels
        self.mel = LogMel(config.mel)
        self.input = nn.Linear(size, config.width)
        self.conformer = Conformer(config.conformer)
        self.head = nn.Linear(config.width, config.codebook_size)
        generator = torch.Generator().manual_seed(config.codebook_seed)
        spread = (6 / (size + config.codebook_width)) ** 0.5  # Xavier's, as in the article
        projection = (torch.rand(size, config.codebook_width, generator=generator) * 2 - 1) * spread
        codebook = torch.randn(config.codebook_size, config.codebook_width, generator=generator)
        self.register_buffer("projection", projection)
        self.register_buffer("codebook", F.normalize(codebook, dim=1))

    def frames(self, lengths: Tensor) -> Tensor:
        """Frames of utterances of `lengths` samples: `[B]`, rounded up."""
        return -(-self.mel.frames(lengths) // self.config.stack)

    def features(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised, stacked log-mel frames.

        Args:
            samples: `[B, N]` float32 at `sample_rate`.
            lengths: `[B]` int64, samples of each row.

        Returns:
            `[B, T, stack * mels]`, zero past a row's length, and `[B]` frames of each row.
        """
        bands, counts = self.mel(samples, lengths)  # [B, T', mels]
        inside = torch.arange(bands.shape[1], device=bands.device) < counts[:, None]
        inside = inside[..., None]  # [B, T', 1]
        total = counts[:, None, None]
        # Mean 0 and deviation 1 in each band of each utterance: without it, nearly all frames
        # would fall to a few codes of the random codebook.
        mean = (bands * inside).sum(dim=1, keepdim=True) / total
        centred = (bands - mean) * inside
        deviation = (centred.square().sum(dim=1, keepdim=True) / total).sqrt()
        bands = centred / deviation.clamp_min(1e-3)
        bands = F.pad(bands, (0, 0, 0, -bands.shape[1] % self.config.stack))
        B, T, M = bands.shape
        stacked = bands.reshape(B, T // self.config.stack, self.config.stack * M)
        return stacked, self.frames(lengths)

    def targets(self, features: Tensor) -> Tensor:
        """The random code of each stack: `[B, T, stack * mels]` to `[B, T]` int64."""
        with torch.no_grad():
            projected = F.normalize(features.float() @ self.projection, dim=-1)
            # Between unit vectors the nearest is the one of the largest product.
            return (projected @ self.codebook.T).argmax(dim=-1)

    def forward(self, features: Tensor, lengths: Tensor, *, layer: int | None = None) -> Tensor:
        """Run the Conformer: `[B, T, stack * mels]`, `[B]` frames to `[B, T, D]`.

        Stops after `layer` blocks (1-based) where given.
        """
        mask = padding_mask(lengths, features.shape[1])
        hidden: Tensor = self.conformer(self.input(features), mask, layers=layer)
        return hidden

    def loss(self, samples: Tensor, lengths: Tensor, generator: torch.Generator) -> BestRQSums:
        """Mask spans, predict the codes under them.

        Args:
            samples: `[B, N]` float32 on the network's device.
            lengths: `[B]` int64, samples of each row, on the same device.
            generator: a CPU generator; the same state masks the same.
        """
        features, counts = self.features(samples, lengths)
        targets = self.targets(features)  # [B, T]
        masked = draw_spans(counts.cpu(), self.config, generator)  # [B, T]
        noise = self.config.noise * torch.randn(features.shape, generator=generator)
        masked = masked.to(features.device)
        hidden = torch.where(masked[..., None], noise.to(features.device), features)
        logits = self.head(self(hidden, counts)[masked])  # [masked frames, codes]
        wanted = targets[masked]
        rows = masked.nonzero()[:, 0]
        loss = F.cross_entropy(logits.float(), wanted, reduction="none")
        correct = logits.argmax(dim=-1) == wanted
        empty = torch.zeros(len(samples), device=features.device)
        return BestRQSums(
            loss=empty.index_add(0, rows, loss),
            frames=masked.sum(dim=1),
            correct=empty.long().index_add(0, rows, correct.long()),
        )

    def encode(self, samples: Tensor, lengths: Tensor, *, layer: int) -> tuple[Tensor, Tensor]:
        """Frames after `layer` blocks (1-based): `[B, N]` to `[B, T, D]` and `[B]` frames."""
        features, counts = self.features(samples, lengths)
        return self(features, counts, layer=layer), counts


def draw_spans(lengths: Tensor, config: BestRQConfig, generator: torch.Generator) -> Tensor:
    """Which frames are masked.

    Args:
        lengths: `[B]` int64 on the CPU, frames of each row.
        config: says how often and how long.
        generator: a CPU generator.

    Returns:
        `[B, T]` bool, T the longest length; never true past a row's own.
    """
    T = int(lengths.max())
    begins = torch.rand(len(lengths), T, generator=generator) < config.mask_probability
    ends = F.pad(begins.long(), (config.mask_frames, 0))[:, :T]
    running = (begins.long() - ends).cumsum(dim=1)  # spans that cover each frame
    return (running > 0) & (torch.arange(T) < lengths[:, None])


def save_best_rq(
    folder: Path,
    *,
    config: BestRQConfig,
    weights: Mapping[str, Tensor],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder of kind `best-rq` from a network's `state_dict` (or its average)."""
    save_model_file(folder, kind=KIND, config=config.to_json(), weights=weights, extra=extra)


def load_best_rq(folder: Path) -> tuple[BestRQ, ModelFile]:
    """Read a model folder of kind `best-rq`; the network comes in evaluation mode.

    Raises:
        DataMismatch: if it is none, or its weights do not fit its configuration.
    """
    file = load_model_file(folder, kind=KIND)
    network = BestRQ(BestRQConfig.from_json(file.config))
    try:
        network.load_state_dict(file.weights)
    except RuntimeError:
        raise DataMismatch(
            f"the weights in {folder} do not fit its config.json: save or copy the model again"
        ) from None
    return network.eval(), file
