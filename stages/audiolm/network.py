"""The network of each of AudioLM's stages: a table, a Transformer, a head for each codebook."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.audiolm.config import StageConfig
from stages.nn.transformer import KeyValueCache, Transformer


class StageNetwork(nn.Module):
    """From entries to the logits of the tokens that follow them.

    As SoundStorm's, it is used in two steps, `features` (or `extend`) and `head`, so that logits
    are made only where a token is generated, and only for its codebook.
    """

    def __init__(self, config: StageConfig) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Parameter(torch.empty(config.entries, config.width))
        self.transformer = Transformer(config.transformer)
        self.head_weight = nn.Parameter(torch.empty(config.groups, config.group_size, config.width))
        self.head_bias = nn.Parameter(torch.empty(config.groups, config.group_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embeddings of variance 1; logits of deviation 1/2, so the first loss is log C + 1/8."""
        nn.init.normal_(self.table)
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
        out: Tensor = self.transformer(F.embedding(entries, self.table), positions)
        return out

    def extend(
        self,
        entries: Tensor,
        positions: Tensor,
        cache: KeyValueCache,
        counts: Sequence[int] | None = None,
    ) -> Tensor:
        """Like `features` of the last N entries, with those before in the cache."""
        embedded = F.embedding(entries, self.table)
        return self.transformer.extend(embedded, cache, counts=counts, positions=positions)

    def head(self, group: int, features: Tensor) -> Tensor:
        """Logits of one 0-based codebook: `[..., D]` to `[..., C]`."""
        return F.linear(features, self.head_weight[group], self.head_bias[group])
