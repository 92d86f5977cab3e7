"""A decoder-only Transformer: pre-norm, rotary positions, causal attention with a cached past.

AudioLM's three stages share it (Borsos et al., 2023, section III-C; their relative positional
embeddings are rotary positions here). It sees vectors, not tokens: tables and heads are its
users'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import DataMismatch
from stages.nn.conformer import FeedForward
from stages.nn.rotary import rotary_at, rotary_table, rotate


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Shape of a Transformer; each of AudioLM's stages is 12, 16, 1024, 4096."""

    layers: int
    """Number of blocks."""

    heads: int
    """Attention heads of each block."""

    width: int
    """D, channels of a token."""

    feed_forward: int
    """Inner width of a block's feed-forward module."""

    dropout: float = 0.1
    """Probability of dropping a channel of a module's output, in training."""

    def __post_init__(self) -> None:
        if min(self.layers, self.heads, self.width, self.feed_forward) < 1:
            raise DataMismatch("a Transformer's layers, heads and widths must all be at least 1")
        if self.width % (2 * self.heads):
            raise DataMismatch(
                f"a width of {self.width} does not split into {self.heads} heads of even width: "
                f"use a multiple of {2 * self.heads}"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise DataMismatch(f"a dropout of {self.dropout} is not in [0, 1)")


class KeyValueCache:
    """Keys and values of a batch's past, in memory that is taken once.

    Rows may have pasts of different lengths: each writes at the end of its own and attends to
    nothing else.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        rows: int,
        capacity: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take the memory.

        Args:
            config: of the Transformer.
            rows: B.
            capacity: tokens that a row can hold, padding of its last extension included.
            device: where the Transformer is.
            dtype: of its weights.
        """
        self.capacity = capacity
        self.lengths = [0] * rows
        head_width = config.width // config.heads
        # A head's past in one piece: read two to three times as fast as with heads innermost.
        shape = (config.layers, 2, rows, config.heads, capacity, head_width)
        self._memory = torch.zeros(shape, device=device, dtype=dtype)

    @property
    def rows(self) -> int:
        return len(self.lengths)

    def keep_first(self, rows: int) -> None:
        """Forget all rows but the first so many; nothing is copied."""
        self.lengths = self.lengths[:rows]
        self._memory = self._memory[:, :, :rows]

    def layer(self, index: int) -> Tensor:
        """Keys and values of a block, `[2, B, heads, capacity, D / heads]`."""
        return self._memory[index]


class _Extension:
    """Where N more tokens of each row go in a cache, and what they may attend to."""

    def __init__(self, cache: KeyValueCache, tokens: int) -> None:
        starts = cache.lengths
        self.end = max(starts) + tokens
        if self.end > cache.capacity:
            raise ValueError(f"a cache of {cache.capacity} tokens cannot hold {self.end}")
        device = cache.layer(0).device
        self._cache, self._tokens = cache, tokens
        self._even = min(starts) == max(starts)
        self._rows = torch.arange(cache.rows, device=device)[:, None]  # [B, 1]
        # [B, N]: of all that is padded at the end, nothing lies within a row's past
        self.places = torch.tensor(starts).to(device)[:, None] + torch.arange(tokens, device=device)
        self.causal = self.end == tokens
        self.mask: Tensor | None = None
        if not self.causal and (tokens > 1 or not self._even):
            seen = torch.arange(self.end, device=device) <= self.places[:, :, None]
            self.mask = seen[:, None]  # [B, 1, N, end]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add `[B, heads, N, D / heads]`; gives the whole past, `[B, heads, end, D / heads]`."""
        memory = self._cache.layer(layer)
        for kind, new in enumerate((keys, values)):
            if self._even:
                memory[kind][:, :, self.end - self._tokens : self.end] = new
            else:
                memory[kind][self._rows, :, self.places] = new.transpose(1, 2)
        past = memory[:, :, :, : self.end]
        return past[0], past[1]


class CausalAttention(nn.Module):
    """Multi-head self-attention to a token itself and what is before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, table: Tensor, layer: int = 0, past: _Extension | None = None
    ) -> Tensor:
        """Attend within each row.

        Args:
            x: `[B, N, D]`.
            table: of rotations, broadcast against `[2, B, heads, N, D / heads / 2]`.
            layer: which block's past this is.
            past: what came before; None if nothing did.
        """
        # [B, N, 3 D] -> [3, B, heads, N, D / heads]
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        q, k = rotate(q, table), rotate(k, table)
        mask, causal = None, True
        if past is not None:
            k, v = past.append(layer, k, v)
            mask, causal = past.mask, past.causal
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        out: Tensor = self.out(attended.transpose(1, 2).flatten(-2))  # [B, N, D]
        return out


class TransformerBlock(nn.Module):
    """Attention, then feed-forward; each pre-normed."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CausalAttention(width, config.heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, config.feed_forward)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, table: Tensor, layer: int = 0, past: _Extension | None = None
    ) -> Tensor:
        """`[B, N, D]` to `[B, N, D]`; see `CausalAttention.forward`."""
        x = x + self.dropout(self.attention(self.attention_norm(x), table, layer, past))
        out: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return out


class Transformer(nn.Module):
    """A stack of Transformer blocks and a last norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform matrices and zero biases; what is added to a token starts small, the
        smaller the more is added (Radford et al., 2019)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith(("attention.out.weight", "feed_forward.outer.weight")):
                    parameter.mul_((2 * self.config.layers) ** -0.5)

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """Run whole rows through the blocks.

        Args:
            x: `[B, N, D]`; padding, if any, at the end of a row, where nothing real sees it.
            positions: `[B, N]` int64, each token's place for the rotations, in any order; its
                index if None. What a token may attend to is a matter of order alone.

        Returns:
            `[B, N, D]`; void at padding.
        """
        if positions is None:
            table = rotary_table(x.shape[1], self._head_width, device=x.device)
        else:
            table = self._table(positions)
        for block in self.blocks:
            x = block(x, table)
        out: Tensor = self.norm(x)
        return out

    def extend(
        self,
        x: Tensor,
        cache: KeyValueCache,
        *,
        counts: Sequence[int] | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Run more tokens of each row, whose past is in the cache, and add them to it.

        Args:
            x: `[B, N, D]`.
            cache: of this Transformer, with B rows.
            counts: how many of a row's N tokens, from the first, are real; all of them if None.
            positions: as in `forward`; by default a row goes on counting from its past.

        Returns:
            `[B, N, D]`, what `forward` gives for these tokens of the whole rows, up to rounding;
            void at padding.

        Raises:
            ValueError: if the cache is too small.
        """
        past = _Extension(cache, x.shape[1])
        table = self._table(past.places if positions is None else positions)
        for layer, block in enumerate(self.blocks):
            x = block(x, table, layer, past)
        more = [x.shape[1]] * cache.rows if counts is None else counts
        cache.lengths = [length + count for length, count in zip(cache.lengths, more, strict=True)]
        out: Tensor = self.norm(x)
        return out

    @property
    def _head_width(self) -> int:
        return self.config.width // self.config.heads

    def _table(self, positions: Tensor) -> Tensor:
        """`[B, N]` to `[2, B, 1, N, D / heads / 2]`, alike for all heads."""
        return rotary_at(positions, self._head_width)[:, :, None]
