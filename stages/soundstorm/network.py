"""SoundStorm's network (paper, section 3.1): summed embeddings, a Conformer, one head a level."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.nn.centroids import CentroidEmbedding
from stages.nn.conformer import Conformer
from stages.soundstorm.config import SoundStormConfig


class SoundStorm(nn.Module):
    """From partly masked acoustic tokens and semantic tokens to the masked ones' logits.

    A frame is one position whatever the number of levels, so attention costs T², not (T·Q)².
    Use it in two steps, so that logits are made only for the level and the frames asked for:
    `features`, then `head`.
    """

    def __init__(self, config: SoundStormConfig) -> None:
        super().__init__()
        self.config = config
        size, width = config.codebook_size, config.width
        # One table for all levels lets embedding_bag sum a frame without a [B, T, Q, D] tensor.
        # Level q's entry c is row q C + c; the last row is the mask that all levels share.
        self.acoustic_table = nn.Parameter(torch.empty(config.levels * size + 1, width))
        # Either each semantic token has a row of its own, or its centroid says what it is like.
        self.semantic_table: nn.Parameter | None = None
        self.semantic_units: CentroidEmbedding | None = None
        units = config.semantic_codebook_size
        if config.centroid_dim:
            self.semantic_units = CentroidEmbedding(units, config.centroid_dim, width)
        else:
            self.semantic_table = nn.Parameter(torch.empty(units, width))
        self.conformer = Conformer(config.conformer)
        # One tensor for all heads gives every head a gradient, if only zero, in every batch:
        # data-parallel training need not look for unused parameters.
        self.head_weight = nn.Parameter(torch.empty(config.levels, size, width))
        self.head_bias = nn.Parameter(torch.empty(config.levels, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start so that a frame's sum and its logits have sensible sizes.

        The sum of Q tokens and a condition has variance 1, and Q masks, which add up alike, have
        no more than that. Logits start at a deviation of 1/2: the first loss is log C + 1/8.
        """
        levels = self.config.levels
        nn.init.normal_(self.acoustic_table, std=(levels + 1) ** -0.5)
        nn.init.normal_(self.acoustic_table[-1], std=1 / levels)
        if self.semantic_units is not None:
            self.semantic_units.reset_parameters((levels + 1) ** -0.5)
        if self.semantic_table is not None:
            nn.init.normal_(self.semantic_table, std=(levels + 1) ** -0.5)
        self.conformer.reset_parameters()
        nn.init.normal_(self.head_weight, std=0.5 * self.config.width**-0.5)
        nn.init.zeros_(self.head_bias)

    def embed_semantic(self, semantic: Tensor) -> Tensor:
        """Condition embeddings: `[B, T]` int64 to `[B, T, D]`, 0 at frames of `no_condition`."""
        known = semantic != self.config.no_condition
        units = semantic * known
        if self.semantic_units is not None:
            embedded: Tensor = self.semantic_units(units)
        else:
            assert self.semantic_table is not None
            embedded = F.embedding(units, self.semantic_table)
        return embedded * known[..., None]

    def condition_table(self) -> Tensor:
        """`[K, D]`: the condition embeddings of all semantic tokens."""
        if self.semantic_units is not None:
            return self.semantic_units.table()
        assert self.semantic_table is not None
        return self.semantic_table

    def embed_level(self, level: int, codes: Tensor) -> Tensor:
        """Embeddings of one 0-based level: `[...]` int64, C where masked, to `[..., D]`."""
        return F.embedding(self._rows(codes, level), self.acoustic_table)

    def embed_levels(self, acoustic: Tensor, *, skip: int | None = None) -> Tensor:
        """Sum a frame's embeddings over its levels.

        Args:
            acoustic: `[B, T, Q]` int64, C where masked.
            skip: a 0-based level to leave out of the sum.

        Returns:
            `[B, T, D]`.
        """
        rows = self._rows(acoustic, torch.arange(acoustic.shape[-1], device=acoustic.device))
        if skip is not None:
            rows = torch.cat((rows[..., :skip], rows[..., skip + 1 :]), dim=-1)
        if rows.shape[-1] == 0:
            return self.acoustic_table.new_zeros(*rows.shape[:-1], self.config.width)
        summed = F.embedding_bag(rows.flatten(0, -2), self.acoustic_table, mode="sum")
        return summed.view(*rows.shape[:-1], -1)

    def _rows(self, codes: Tensor, level: int | Tensor) -> Tensor:
        """Rows of `acoustic_table`; `level` broadcasts against `codes`."""
        size = self.config.codebook_size
        return torch.where(codes == size, self.acoustic_table.shape[0] - 1, codes + level * size)

    def features(self, acoustic: Tensor, semantic: Tensor, mask: Tensor | None = None) -> Tensor:
        """The Conformer's view of each frame.

        Args:
            acoustic: `[B, T, Q]` int64 in `[0, C]`, C where masked; padding frames may hold any.
            semantic: `[B, T]` int64 at the acoustic frame rate.
            mask: `[B, T]` bool, true at real frames; None if all are (`nn.padding_mask`).

        Returns:
            `[B, T, D]`, void at padding.
        """
        return self.features_of(self.embed_levels(acoustic) + self.embed_semantic(semantic), mask)

    def features_of(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Like `features`, from summed frame embeddings `[B, T, D]`."""
        if mask is not None:  # padding adds nothing, not even a token's embedding
            frames = frames.masked_fill(~mask[:, :, None], 0.0)
        features: Tensor = self.conformer(frames, mask)
        return features

    def head(self, level: int, features: Tensor) -> Tensor:
        """Logits of one 0-based level: `[..., D]` to `[..., C]`."""
        return F.linear(features, self.head_weight[level], self.head_bias[level])
