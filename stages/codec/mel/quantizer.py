"""Residual vector quantisation with codes from k-means, level by level."""

from __future__ import annotations

import torch
from torch import Tensor, nn

KMEANS_ITERATIONS = 10
"""Of each level."""


class ResidualQuantizer(nn.Module):
    """Q codebooks of C entries, each of what the levels before it left over."""

    codebooks: Tensor
    started: Tensor

    def __init__(self, dim: int, *, levels: int, size: int) -> None:
        super().__init__()
        self.levels, self.size = levels, size
        self.register_buffer("codebooks", torch.zeros(levels, size, dim))  # [Q, C, D]
        self.register_buffer("started", torch.zeros(()))

    def encode(self, x: Tensor, levels: int | None = None) -> Tensor:
        """Frames `[B, T, D]` to codes `[B, T, Q]` of the first `levels` levels."""
        residual, codes = x, []
        for entries in self.codebooks[: levels or self.levels]:
            chosen = _nearest(residual, entries)
            residual = residual - entries[chosen]
            codes.append(chosen)
        return torch.stack(codes, dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes `[B, T, Q]` of any number of leading levels to frames `[B, T, D]`."""
        total = torch.zeros(*codes.shape[:2], self.codebooks.shape[2], device=codes.device)
        for level in range(codes.shape[2]):
            total = total + self.codebooks[level][codes[..., level]]
        return total

    @torch.no_grad()
    def start(self, frames: Tensor, generator: torch.Generator | None = None) -> None:
        """Put the entries where k-means has them on frames `[N, D]`, level by level.

        Args:
            frames: many more than C, if there are.
            generator: on the CPU, for k-means' own start; torch's own if None.
        """
        if len(frames) < self.size:
            picked = torch.randint(len(frames), (self.size,), generator=generator)
            frames = frames[picked.to(frames.device)]
            noise = torch.randn(frames.shape, generator=generator).to(frames)
            frames = frames + 1e-2 * frames.std() * noise
        for level in range(self.levels):
            self.codebooks[level] = _kmeans(frames, self.size, generator)
            frames = frames - self.codebooks[level][_nearest(frames, self.codebooks[level])]
        self.started.fill_(1.0)


def _nearest(x: Tensor, entries: Tensor) -> Tensor:
    """Index of the entry `[C, D]` nearest to each of `[B, T, D]`: `[B, T]`."""
    with torch.autocast(x.device.type, enabled=False):  # bfloat16 would take entries near by
        # |x|^2 is the same for all entries.
        distance = entries.square().sum(dim=-1) - 2 * x.float() @ entries.T  # [B, T, C]
        return distance.argmin(dim=-1)


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
