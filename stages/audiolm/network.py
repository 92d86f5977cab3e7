"""The network of each of AudioLM's stages: a table, a Transformer, a head for each codebook."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.audiolm.config import StageConfig
from stages.nn.centroids import CentroidEmbedding, CentroidScores
from stages.nn.transformer import KeyValueCache, Transformer


class StageNetwork(nn.Module):
    """From entries to the logits of the tokens that follow them.

    As SoundStorm's, it is used in two steps, `features` (or `extend`) and `head`, so that logits
    are made only where a token is generated, and only for its codebook.
    """

    def __init__(self, config: StageConfig) -> None:
        super().__init__()
        self.config = config
        width, semantic = config.width, config.semantic_entries
        rows, codes = config.entries, config.group_size  # that have weights of their own
        self.units: CentroidEmbedding | None = None
        self.unit_scores: CentroidScores | None = None
        if config.centroid_dim:
            rows -= len(semantic)
            self.units = CentroidEmbedding(len(semantic), config.centroid_dim, width)
            if config.first_entry(0) in semantic:  # they are generated, too
                codes -= len(semantic)
                self.unit_scores = CentroidScores(config.centroid_dim, width)
        self.table = nn.Parameter(torch.empty(rows, width))
        self.transformer = Transformer(config.transformer)
        self.head_weight = nn.Parameter(torch.empty(config.groups, codes, width))
        self.head_bias = nn.Parameter(torch.empty(config.groups, codes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embeddings of variance 1; logits of deviation 1/2, so the first loss is log C + 1/8."""
        nn.init.normal_(self.table)
        if self.units is not None:
            self.units.reset_parameters(1.0)
        if self.unit_scores is not None:
            self.unit_scores.reset_parameters()
        self.transformer.reset_parameters()
        nn.init.normal_(self.head_weight, std=0.5 * self.config.width**-0.5)
        nn.init.zeros_(self.head_bias)

    def features(self, entries: Tensor, positions: Tensor) -> Tensor:
        """What the Transformer makes of whole sequences.

        Args:
            entries: `[B, N]` int64, padding at the end.
            positions: `[B, N]` int64.

        Returns:
            `[B, N, D]`, at each place of what comes next; void at padding.
        """
        out: Tensor = self.transformer(self.embed(entries), positions)
        return out

    def extend(
        self,
        entries: Tensor,
        positions: Tensor,
        cache: KeyValueCache,
        counts: Sequence[int] | None = None,
    ) -> Tensor:
        """Like `features` of the last N entries, with those before in the cache."""
        return self.transformer.extend(
            self.embed(entries), cache, counts=counts, positions=positions
        )

    def head(self, group: int, features: Tensor) -> Tensor:
        """Logits of one 0-based codebook: `[..., D]` to `[..., C]`."""
        own = F.linear(features, self.head_weight[group], self.head_bias[group])
        if self.units is None or self.unit_scores is None:
            return own
        return torch.cat([self.unit_scores(features, self.units.centroids), own], dim=-1)

    def embed(self, entries: Tensor) -> Tensor:
        """`[...]` int64 to `[..., D]`."""
        if self.units is None:
            return F.embedding(entries, self.table)
        semantic = self.config.semantic_entries
        is_unit = (entries >= semantic.start) & (entries < semantic.stop)
        rows = entries - len(semantic) * (entries >= semantic.stop)
        own = F.embedding(rows * ~is_unit, self.table)
        units: Tensor = self.units((entries - semantic.start) * is_unit)
        return torch.where(is_unit[..., None], units, own)

    def unit_table(self) -> Tensor:
        """`[K, D]`: the embeddings of all semantic tokens."""
        if self.units is not None:
            return self.units.table()
        semantic = self.config.semantic_entries
        return self.table[semantic.start : semantic.stop]

    def unit_weights(self) -> tuple[Tensor, Tensor]:
        """`[K, D]` and `[K]`: weights and biases of all semantic tokens' logits, of the stage that
        has them."""
        if self.units is not None and self.unit_scores is not None:
            return self.unit_scores.weights(self.units.centroids)
        return self.head_weight[0, :-1], self.head_bias[0, :-1]

    def fix(self) -> None:
        """Make once what is the same for all that is generated: training is over."""
        if self.units is not None and self.unit_scores is not None:
            self.unit_scores.fix(self.units.centroids)
