"""A small encoder taught by a large one: it predicts the semantic tokens that the large one gave.

The teacher's frames become tokens by k-means (`tokenize-semantic`), and a Conformer learns to name
each frame's token from log-mel frames, some spans of which are noise. The teacher is needed for
training only. (HuBERT's targets, Hsu et al. 2021, with another model's units instead of one's own.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import DataMismatch
from stages.nn.model_file import ModelFile, load_model_file, load_weights, save_model_file
from stages.semantic.speech_conformer import (
    SpeechConformer,
    SpeechConformerConfig,
    draw_spans,
)

KIND = "student"
NO_TOKEN = -1
"""Stands for padding among targets."""


HEAD_NORM = 8.0
"""Mean length of the head's rows at the start: its logits then outweigh a random network's."""


@dataclass(frozen=True, kw_only=True)
class StudentConfig(SpeechConformerConfig):
    """Shape of the student."""

    tokens: int
    """Size of the teacher's codebook."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens < 2:
            raise DataMismatch("a student needs a teacher with at least two tokens")


@dataclass(frozen=True, kw_only=True)
class StudentSums:
    """Sums over the frames of a batch."""

    loss: Tensor
    """Scalar: cross-entropy in nats, with gradients."""

    frames: Tensor
    """Scalar int64."""

    correct: Tensor
    """Scalar int64: frames whose likeliest token is the teacher's."""


class Student(SpeechConformer):
    """The network with its head."""

    config: StudentConfig

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.head = nn.Linear(config.width, config.tokens)

    @torch.no_grad()
    def start_head(self, centroids: Tensor, generator: torch.Generator) -> None:
        """Start the head where the teacher's clusters lie, so that like tokens have like logits.

        After it, a logit falls with the squared distance to the token's cluster.

        Args:
            centroids: `[tokens, D]`, the teacher's.
            generator: on the CPU.
        """
        centres = centroids.float() - centroids.float().mean(dim=0)
        _, _, directions = torch.linalg.svd(centres, full_matrices=False)
        placed = centres @ directions[: self.config.width].T  # [tokens, at most width]
        # Along random directions of the width, since the network's output has no first ones.
        turn, _ = torch.linalg.qr(
            torch.randn(self.config.width, self.config.width, generator=generator)
        )
        placed = placed @ turn[: placed.shape[1]]
        placed = placed * (HEAD_NORM / placed.norm(dim=1).mean().clamp_min(1e-6))
        self.head.weight.copy_(placed)
        self.head.bias.copy_(-placed.square().sum(dim=1) / (2 * HEAD_NORM))

    def loss(
        self, samples: Tensor, lengths: Tensor, tokens: Tensor, generator: torch.Generator | None
    ) -> StudentSums:
        """Name every frame's token, masked or not.

        Args:
            samples: `[B, N]` float32 on the network's device.
            lengths: `[B]` int64, samples of each row, on the same device.
            tokens: `[B, T]` int64, the teacher's, `NO_TOKEN` at padding.
            generator: a CPU generator; the same state masks the same. None masks nothing.
        """
        features, counts = self.features(samples, lengths)
        if generator is not None:
            masked = draw_spans(counts.cpu(), self.config, generator).to(features.device)
            noise = self.config.noise * torch.randn(features.shape, generator=generator)
            features = torch.where(masked[..., None], noise.to(features.device), features)
        # A window's last frame may lie past the teacher's last token, or the other way round.
        T = min(features.shape[1], tokens.shape[1])
        inside = (tokens[:, :T] != NO_TOKEN) & (
            torch.arange(T, device=features.device) < counts[:, None]
        )
        logits = self.head(self(features, counts)[:, :T][inside])  # [frames, tokens]
        wanted = tokens[:, :T][inside]
        return StudentSums(
            loss=F.cross_entropy(logits.float(), wanted, reduction="sum"),
            frames=inside.sum(),
            correct=(logits.argmax(dim=-1) == wanted).sum(),
        )


def save_student(
    folder: Path,
    *,
    config: StudentConfig,
    weights: Mapping[str, Tensor],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder of kind `student` from a network's `state_dict` (or its average)."""
    save_model_file(folder, kind=KIND, config=config.to_json(), weights=weights, extra=extra)


def load_student(folder: Path) -> tuple[Student, ModelFile]:
    """Read a model folder of kind `student`; the network comes in evaluation mode.

    Raises:
        DataMismatch: if it is none, or its weights do not fit its configuration.
    """
    file = load_model_file(folder, kind=KIND)
    network = Student(StudentConfig.from_json(file.config, where=str(folder)))
    load_weights(network, file.weights, folder)
    return network.eval(), file
