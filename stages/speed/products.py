"""The matrix products in a piece of work, from shapes: what the machine's own speed is taken on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from stages.codec.mel.config import (
    MelCodecConfig,
    MelGeometry,
    SourceFilterConfig,
    VocoderConfig,
)
from stages.codec.mel.griffin_lim import ITERATIONS, GriffinLim
from stages.codec.mel.mel_bands import finer_frames
from stages.codec.mel.pitch import POINTS, candidates
from stages.codec.mel.vocoder import Vocoder
from stages.nn.conformer import ConformerConfig
from stages.soundstorm.config import SoundStormConfig
from stages.speed.codec_cost import SCALINGS, Sound
from stages.speed.cost import logits_made, masked_before

Role = Literal["map", "attention", "head", "other"]
"""A linear map, attention's, a head's that makes logits, or one outside of networks."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """So many products of one shape, `[batch, M, K]` times `[batch, K, N]`."""

    M: int
    """Rows: frames, for a linear map."""

    K: int
    """What is summed over."""

    N: int
    """Columns."""

    batch: int = 1
    """Products in one call: heads of all rows, in attention."""

    count: float = 1.0
    """How often the work has it. No whole number where products of several M are counted as one:
    the sum of their rows is kept."""

    left_transposed: bool = False
    """Whether the left factor lies in memory as `[K, M]`."""

    right_transposed: bool = False
    """Whether the right factor lies in memory as `[N, K]`, as a linear map's weights do."""

    role: Role = "other"
    """What it is in a network: a precision may be for some roles only."""

    @property
    def flops(self) -> float:
        """Of all `count`, an addition and a multiplication being two."""
        return 2.0 * self.batch * self.M * self.K * self.N * self.count

    def moved(self, factor: int, result: int) -> float:
        """Bytes of all `count`, factors and result each moved once.

        Args:
            factor: bytes of a number of a factor.
            result: bytes of a number of the result.
        """
        factors = factor * (self.M * self.K + self.K * self.N)
        return self.batch * (factors + result * self.M * self.N) * self.count

    def times(self, count: float) -> Product:
        return replace(self, count=self.count * count)


def flops_of(products: Iterable[Product]) -> float:
    """Of all of them."""
    return sum(product.flops for product in products)


def merged(products: Iterable[Product]) -> list[Product]:
    """Products of one shape as one, in the order in which shapes first occur."""
    counts: dict[Product, float] = {}
    for product in products:
        shape = replace(product, count=1.0)
        counts[shape] = counts.get(shape, 0.0) + product.count
    return [replace(shape, count=count) for shape, count in counts.items()]


def linear(
    rows: int, inputs: int, outputs: int, count: float = 1.0, *, role: Role = "map"
) -> Product:
    """A linear map over so many frames: `[M, K]` times its weights `[N, K]`."""
    return Product(M=rows, K=inputs, N=outputs, count=count, right_transposed=True, role=role)


def attention(rows: int, frames: int, heads: int, width: int) -> list[Product]:
    """Of `rows` utterances of T frames: queries times keys, then weights times values."""
    size, batch = width // heads, rows * heads
    return [
        Product(M=frames, K=size, N=frames, batch=batch, right_transposed=True, role="attention"),
        Product(M=frames, K=frames, N=size, batch=batch, role="attention"),
    ]


def conformer_products(config: ConformerConfig, rows: int, frames: int) -> list[Product]:
    """Of a pass over `rows` utterances of T frames; the depthwise convolution is no product."""
    D, inner, total = config.width, config.feed_forward, rows * frames
    block = [
        linear(total, D, inner, 2),
        linear(total, inner, D, 2),
        linear(total, D, 3 * D),
        *attention(rows, frames, config.heads, D),
        linear(total, D, D, 2),  # after attention, and after the convolution
        linear(total, D, 2 * D),
    ]
    return [product.times(config.layers) for product in block]


def decode_products(
    config: SoundStormConfig,
    frames: int,
    iterations: Sequence[int],
    *,
    rows: int,
    together: int,
) -> list[Product]:
    """Of decoding `rows` utterances of T frames without a prompt (`cost.soundstorm_cost`).

    Args:
        config: the network's.
        frames: T.
        iterations: passes of each level (`soundstorm.schedule.parse_iterations`).
        rows: utterances.
        together: utterances in a pass; a divisor of `rows`.
    """
    turns = rows // together
    passes = turns * len(masked_before(frames, iterations))
    body = conformer_products(config.conformer, together, frames)
    # Logits are made of the masked frames; as many rows of logits, in products over all frames.
    share = logits_made(frames, iterations) / frames
    head = linear(together * frames, config.width, config.codebook_size, share, role="head")
    return [product.times(passes) for product in body] + [head.times(turns)]


def backward(product: Product) -> list[Product]:
    """The two products that give the gradients of a product's factors.

    Of C = A B with C's gradient G: A's is G B', and B's is A' G; G' A where B lies transposed, so
    that its gradient lies as it does.
    """
    M, K, N = product.M, product.K, product.N
    turned = product.right_transposed
    for_left = replace(product, K=N, N=K, left_transposed=False, right_transposed=not turned)
    rows, columns = (N, K) if turned else (K, N)
    for_right = replace(
        product, M=rows, K=M, N=columns, left_transposed=True, right_transposed=False
    )
    return [for_left, for_right]


def step_products(
    config: SoundStormConfig, frames: int, *, rows: int, masked: float
) -> list[Product]:
    """Of a training step, forward and backward, over `rows` windows of T frames.

    Args:
        config: the network's.
        frames: T.
        rows: windows.
        masked: tokens whose logits are made, over all windows.
    """
    total = rows * frames
    head = linear(total, config.width, config.codebook_size, masked / total, role="head")
    forward = [*conformer_products(config.conformer, rows, frames), head]
    return [one for product in forward for one in (product, *backward(product))]


def convnext_products(
    frames: int, inputs: int, outputs: int, *, width: int, hidden: int, blocks: int, kernel: int
) -> list[Product]:
    """Of `stages.codec.mel.convnext.ConvNeXt` over one row; its first convolution as a product."""
    return [
        linear(frames, kernel * inputs, width),
        linear(frames, width, hidden, blocks),
        linear(frames, hidden, width, blocks),
        linear(frames, width, outputs),
    ]


def mel_decoder_products(config: MelCodecConfig, frames: int) -> list[Product]:
    """Of `codec_cost.mel_decoder_cost`."""
    return convnext_products(
        frames, config.mels, config.mels, width=config.width, hidden=config.hidden,
        blocks=config.blocks, kernel=config.kernel,
    )  # fmt: skip


def vocoder_products(config: VocoderConfig, frames: int) -> list[Product]:
    """Of `codec_cost.vocoder_cost`."""
    return convnext_products(
        frames, config.mels, config.fft + 2, width=config.width, hidden=config.hidden,
        blocks=config.blocks, kernel=config.kernel,
    )  # fmt: skip


def griffin_lim_products(geometry: MelGeometry, frames: int) -> list[Product]:
    """Of `codec_cost.griffin_lim_cost`, whose Fourier transforms are no products."""
    return _band_products(geometry, frames, smooth=1, scalings=ITERATIONS)


def source_filter_products(config: SourceFilterConfig, frames: int) -> list[Product]:
    """Of `codec_cost.source_filter_cost`."""
    network = convnext_products(
        frames, config.mels, POINTS * (candidates(config) + 1), width=config.width,
        hidden=config.hidden, blocks=config.blocks, kernel=config.kernel,
    )  # fmt: skip
    return network + _band_products(config, frames, smooth=0, scalings=SCALINGS)


def sound_products(sound: Sound, frames: int) -> list[Product]:
    """Of `codec_cost.sound_cost`."""
    if isinstance(sound, GriffinLim):
        return griffin_lim_products(sound.geometry, frames)
    if isinstance(sound, Vocoder):
        return vocoder_products(sound.config, frames)
    return source_filter_products(sound.config, frames)


def mel_encoder_products(config: MelCodecConfig, frames: int, levels: int) -> list[Product]:
    """Of `codec_cost.mel_encoder_cost`."""
    bins, mels = config.window // 2 + 1, config.mels
    return [
        Product(M=frames, K=bins, N=mels),
        Product(M=frames, K=mels, N=config.codebook_size, count=levels, right_transposed=True),
    ]


def _band_products(
    geometry: MelGeometry, frames: int, *, smooth: int, scalings: int
) -> list[Product]:
    """Of `stages.codec.mel.mel_bands.MelBands`: so many `magnitudes` and `scale`."""
    bins, mels = geometry.window // 2 + 1, geometry.mels
    count = finer_frames(geometry) * frames + 2
    return [
        Product(M=count, K=mels, N=bins, count=smooth + scalings),
        Product(M=count, K=bins, N=mels, count=scalings),
    ]
