"""What a generation costs whatever it runs on: steps, floating-point operations, bytes moved.

All from shapes. A product of matrices [a, b] and [b, c] is 2 a b c operations; norms, activations,
softmaxes and table look-ups are left out, as torch's `FlopCounterMode` leaves them out. Attention
counts every query with every key, also those that causality hides.

Bytes are float32. Weights are read once a pass, whatever they are applied to; of the cache, what a
pass reads and what it writes. Activations are left out: they fit a GPU's caches, or nearly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.audiolm.config import StageConfig
from stages.nn.conformer import ConformerConfig
from stages.nn.transformer import TransformerConfig
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.schedule import masked_after, terms

BYTES = 4
"""Of a float32."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one generation."""

    steps: int
    """Passes that each need the one before."""

    flops: int
    """Operations, an addition and a multiplication being two."""

    weight_bytes: int
    """Read, over all passes."""

    cache_bytes: int
    """Keys and values, read and written, over all passes."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            steps=self.steps + other.steps,
            flops=self.flops + other.flops,
            weight_bytes=self.weight_bytes + other.weight_bytes,
            cache_bytes=self.cache_bytes + other.cache_bytes,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "flops": self.flops,
            "weight_bytes": self.weight_bytes,
            "cache_bytes": self.cache_bytes,
        }


NOTHING = Cost(steps=0, flops=0, weight_bytes=0, cache_bytes=0)


def linear_flops(tokens: int, inputs: int, outputs: int) -> int:
    """Of `[tokens, inputs]` times `[inputs, outputs]`."""
    return 2 * tokens * inputs * outputs


def linear_weights(inputs: int, outputs: int, *, bias: bool = True) -> int:
    """Numbers in a linear map."""
    return inputs * outputs + (outputs if bias else 0)


def attention_flops(queries: int, keys: int, width: int) -> int:
    """Of all heads together: queries times keys, then weights times values."""
    return 4 * queries * keys * width


def transformer_flops(config: TransformerConfig, tokens: int, past: int) -> int:
    """Of a pass over `tokens` new tokens with `past` tokens in the cache."""
    D, inner = config.width, config.feed_forward
    block = (
        linear_flops(tokens, D, 3 * D)  # queries, keys, values
        + attention_flops(tokens, past + tokens, D)
        + linear_flops(tokens, D, D)
        + linear_flops(tokens, D, inner)
        + linear_flops(tokens, inner, D)
    )
    return config.layers * block


def transformer_weights(config: TransformerConfig) -> int:
    """Numbers in a Transformer."""
    D, inner = config.width, config.feed_forward
    block = (
        linear_weights(D, 3 * D)
        + linear_weights(D, D)
        + linear_weights(D, inner)
        + linear_weights(inner, D)
        + 2 * 2 * D  # two norms
    )
    return config.layers * block + 2 * D


def continuation_cost(config: StageConfig, known: int, made: int) -> Cost:
    """Of completing a sequence of `known` tokens with `made` more, as `generation.complete` does.

    The first pass goes over all that is known and gives the first new token; each other pass goes
    over the token before.
    """
    net, D = config.transformer, config.width
    past = range(known, known + made - 1)  # before each pass but the first
    flops = transformer_flops(net, known, 0) + sum(transformer_flops(net, 1, p) for p in past)
    token_bytes = BYTES * net.layers * 2 * D  # keys and values
    read = known + sum(p + 1 for p in past)
    weights = transformer_weights(net) + linear_weights(D, config.group_size)
    return Cost(
        steps=made,
        flops=flops + linear_flops(made, D, config.group_size),
        weight_bytes=BYTES * made * weights,
        cache_bytes=token_bytes * (read + known + len(past)),
    )


def conformer_flops(config: ConformerConfig, frames: int) -> int:
    """Of a pass over one row."""
    D, inner = config.width, config.feed_forward
    feed_forward = linear_flops(frames, D, inner) + linear_flops(frames, inner, D)
    attention = (
        linear_flops(frames, D, 3 * D)
        + attention_flops(frames, frames, D)
        + linear_flops(frames, D, D)
    )
    convolution = (
        linear_flops(frames, D, 2 * D)
        + 2 * frames * D * config.kernel  # depthwise
        + linear_flops(frames, D, D)
    )
    return config.layers * (2 * feed_forward + attention + convolution)


def conformer_weights(config: ConformerConfig) -> int:
    """Numbers in a Conformer."""
    D, inner = config.width, config.feed_forward
    block = (
        2 * (linear_weights(D, inner) + linear_weights(inner, D))
        + linear_weights(D, 3 * D)
        + linear_weights(D, D)
        + linear_weights(D, 2 * D, bias=False)
        + D * config.kernel
        + linear_weights(D, D, bias=False)
        + 6 * 2 * D  # five norms of the block and one of the convolution module
    )
    return config.layers * block


def masked_before(frames: int, iterations: Sequence[int]) -> list[int]:
    """For each pass of decoding a row without a prompt, the frames that were masked before it."""
    return [
        masked_after(frames, iteration - 1, count)
        for count in iterations
        for iteration in range(count)
        # A pass in which no token is due is left out.
        if masked_after(frames, iteration - 1, count) != masked_after(frames, iteration, count)
    ]


def logits_made(frames: int, iterations: Sequence[int]) -> int:
    """For how many tokens decoding such a row makes logits: a level's in each of its passes."""
    return sum(
        term.levels * sum(masked_before(frames, (term.passes,))) for term in terms(iterations)
    )


def soundstorm_cost(config: SoundStormConfig, frames: int, iterations: Sequence[int]) -> Cost:
    """Of decoding a row without a prompt, as `soundstorm.decoding.decode` does.

    A pass goes over all frames; logits are made for the frames that were masked before it.
    """
    net, D = config.conformer, config.width
    passes = len(masked_before(frames, iterations))
    weights = conformer_weights(net) + linear_weights(D, config.codebook_size)
    return Cost(
        steps=passes,
        flops=passes * conformer_flops(net, frames)
        + linear_flops(logits_made(frames, iterations), D, config.codebook_size),
        weight_bytes=BYTES * passes * weights,
        cache_bytes=0,
    )


def training_flops(config: SoundStormConfig, frames: int, *, rows: int, masked: int) -> int:
    """Of a training step over `rows` windows of T frames: forward, and twice that backward.

    Args:
        config: the network's.
        frames: T.
        rows: windows.
        masked: tokens whose logits are made, over all windows.
    """
    body = rows * conformer_flops(config.conformer, frames)
    return 3 * (body + linear_flops(masked, config.width, config.codebook_size))
