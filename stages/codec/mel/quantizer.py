"""Residual vector quantisation with codes as running means (SoundStream, EnCodec)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

KMEANS_ITERATIONS = 10
"""Of each level's start; running means go on from there."""


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What a quantiser made of a batch of frames."""

    values: Tensor
    """`[B, T, D]`: the sum of each frame's codes; its gradient is that of the quantiser's input."""

    codes: Tensor
    """`[B, T, Q]` int64."""

    commitment: Tensor
    """Scalar: mean squared distance of the residuals to their codes, over real frames."""


class ResidualQuantizer(nn.Module):
    """Q codebooks of C entries, each of what the levels before it left over.

    An entry is the running mean of the residuals that chose it, kept as a sum and a count, so that
    processes with a part of the batch each can average their buffers. An entry that is hardly
    chosen is put on a residual drawn from the batch. They start from k-means (`start`).
    """

    sums: Tensor
    counts: Tensor
    started: Tensor

    def __init__(
        self, dim: int, *, levels: int, size: int, decay: float, restart_below: float
    ) -> None:
        super().__init__()
        self.levels, self.size = levels, size
        self.decay, self.restart_below = decay, restart_below
        self.register_buffer("sums", torch.zeros(levels, size, dim))
        self.register_buffer("counts", torch.ones(levels, size))
        self.register_buffer("started", torch.zeros(()))

    def entries(self, level: int) -> Tensor:
        """`[C, D]`."""
        return self.sums[level] / self.counts[level, :, None]

    def encode(self, x: Tensor, levels: int | None = None) -> Tensor:
        """Frames `[B, T, D]` to codes `[B, T, Q]` of the first `levels` levels."""
        residual, codes = x, []
        for level in range(levels or self.levels):
            entries = self.entries(level)
            chosen = _nearest(residual, entries)
            residual = residual - entries[chosen]
            codes.append(chosen)
        return torch.stack(codes, dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes `[B, T, Q]` of any number of leading levels to frames `[B, T, D]`."""
        total = torch.zeros(*codes.shape[:2], self.sums.shape[2], device=codes.device)
        for level in range(codes.shape[2]):
            total = total + self.entries(level)[codes[..., level]]
        return total

    @torch.no_grad()
    def start(self, frames: Tensor, generator: torch.Generator | None = None) -> None:
        """Put the entries where k-means has them, level by level, on frames `[N, D]`.

        Without it, training starts from the frames of its first batch.

        Args:
            frames: many more than C, if there are.
            generator: on the CPU, for k-means' own start; torch's own if None.
        """
        if len(frames) < self.size:
            frames = _draw(frames, self.size, generator)
            noise = torch.randn(frames.shape, generator=generator).to(frames)
            frames = frames + 1e-2 * frames.std() * noise
        for level in range(self.levels):
            centres = _kmeans(frames, self.size, generator)
            chosen = _nearest(frames, centres)
            counts = torch.zeros_like(self.counts[level])
            counts.index_add_(0, chosen, torch.ones_like(frames[:, 0]))
            # As if each had been chosen about once a batch, so that batches of any size move them.
            self.counts[level] = (counts / _even_share(frames, self.size)).clamp_min(0.1)
            self.sums[level] = centres * self.counts[level, :, None]
            frames = frames - centres[chosen]
        self.started.fill_(1.0)

    def forward(
        self,
        x: Tensor,
        inside: Tensor,
        used: Tensor,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        """Quantise in training, and move the entries if the module is in training mode.

        Args:
            x: `[B, T, D]`.
            inside: `[B, T]` bool, the real frames.
            used: `[B]` int64, levels that each example uses.
            generator: on the CPU, for the start and restarts; torch's own if None.
        """
        total, commitment = torch.zeros_like(x), x.new_zeros(())
        residual, codes = x, []
        learn = self.training and bool(inside.any())
        if learn and not self.started:
            self.start(x.detach()[inside], generator)
        for level in range(self.levels):
            active = inside & (used > level)[:, None]  # [B, T]
            frames = residual.detach()[inside]  # [N, D]
            entries = self.entries(level)
            chosen = _nearest(residual.detach(), entries)  # [B, T]
            if learn:
                self._learn(level, frames, chosen[inside], generator)
            code = entries[chosen]  # [B, T, D]
            distance = (residual - code).square().mean(dim=-1)  # [B, T]
            commitment = commitment + (distance * active).sum() / active.sum().clamp_min(1)
            total = total + code * active[..., None]
            residual = residual - code
            codes.append(chosen)
        # Straight through: forward the codes, backward to the encoder as if they were its output.
        values = x + (total - x).detach()
        return Quantized(
            values=values,
            codes=torch.stack(codes, dim=-1),
            commitment=commitment / self.levels,
        )

    @torch.no_grad()
    def _learn(
        self, level: int, frames: Tensor, chosen: Tensor, generator: torch.Generator | None
    ) -> None:
        """Move entries toward the frames `[N, D]` that chose them, `[N]`; restart unused ones."""
        counts = torch.zeros_like(self.counts[level])
        counts.index_add_(0, chosen, torch.ones_like(frames[:, 0]))
        sums = torch.zeros_like(self.sums[level]).index_add_(0, chosen, frames)
        self.counts[level].lerp_(counts, 1 - self.decay)
        self.sums[level].lerp_(sums, 1 - self.decay)
        share = _even_share(frames, self.size)
        dead = self.counts[level] < self.restart_below * share
        fresh = _draw(frames, self.size, generator) * share
        self.counts[level] = torch.where(dead, share, self.counts[level])
        self.sums[level] = torch.where(dead[:, None], fresh, self.sums[level])


def _even_share(frames: Tensor, size: int) -> float:
    """What each entry would count were the frames `[N, D]` spread evenly over all of them."""
    return len(frames) / size


def _nearest(x: Tensor, entries: Tensor) -> Tensor:
    """Index of the entry `[C, D]` nearest to each of `[B, T, D]`: `[B, T]`."""
    # |x|^2 is the same for all entries.
    scores = x @ entries.T - 0.5 * entries.square().sum(dim=1)
    return scores.argmax(dim=-1)


def _kmeans(frames: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    """`size` centres `[size, D]` of frames `[N, D]`, N at least `size`."""
    import faiss

    kmeans = faiss.Kmeans(
        frames.shape[1],
        size,
        niter=KMEANS_ITERATIONS,
        seed=int(torch.randint(1 << 30, (), generator=generator)),
        max_points_per_centroid=len(frames),
        min_points_per_centroid=1,
    )
    kmeans.train(frames.float().cpu().numpy())
    return torch.from_numpy(kmeans.centroids).to(frames)


def _draw(frames: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """`count` of `[N, D]` frames at random, `[count, D]`."""
    picked = torch.randint(len(frames), (count,), generator=generator)
    return frames[picked.to(frames.device)]
