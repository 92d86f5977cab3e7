"""Products and operations by shapes are those that the networks really do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from stages.codec.mel.codec import OWN_VOCODER
from stages.codec.mel.config import (
    MelCodecConfig,
    MelGeometry,
    SourceFilterConfig,
    VocoderConfig,
)
from stages.codec.mel.griffin_lim import GriffinLim
from stages.codec.mel.model import save_source_filter, save_vocoder
from stages.codec.mel.network import MelCodec
from stages.codec.mel.source_filter import SourceFilter
from stages.codec.mel.vocoder import Vocoder
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.loss import masked_loss
from stages.soundstorm.masking import draw_mask
from stages.soundstorm.network import SoundStorm
from stages.speed import codec_cost, decoding, products
from stages.speed.cells import Cell
from stages.speed.cost import conformer_flops, training_flops
from stages.speed.decoding import Decoding
from stages.speed.products import Product, flops_of, merged

CPU = torch.device("cpu")
CONFIG = SoundStormConfig(
    levels=3, codebook_size=11, semantic_codebook_size=7, layers=2, heads=2, width=16,
    feed_forward=32, dropout=0.0,
)  # fmt: skip
T = 10
DEPTHWISE = 2 * T * CONFIG.width * CONFIG.kernel * CONFIG.layers
"""Operations of a pass that are no matrix product."""


def counted(work: Callable[[], object]) -> int:
    """FLOPs by torch's count, which knows no fused attention on a CPU."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    total: int = counter.get_total_flops()
    return total


@pytest.fixture(params=["16,1", "1", "3,1x2", "4x3"])
def work(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Decoding:
    """Two rows of ten frames, by the paper's passes and others."""
    monkeypatch.setattr(decoding, "soundstorm_shape", lambda name, levels: CONFIG)
    cell = Cell(
        task="decode", what="tiny", seconds=Fraction(1, 5), batch=2, levels=3,
        iterations=request.param,
    )  # fmt: skip
    return Decoding(cell, CPU)


def test_a_decoding_does_what_its_shapes_say(work: Decoding) -> None:
    assert work.flops == counted(lambda: work.run(work.steps))
    depthwise = 2 * work.steps * DEPTHWISE
    assert flops_of(work.products(work.steps)) + depthwise == pytest.approx(work.flops)


def test_the_first_passes_do_what_their_products_say(work: Decoding) -> None:
    done = counted(lambda: work.run(2))
    assert flops_of(work.products(2)) + 2 * 2 * DEPTHWISE == pytest.approx(done)


def test_products_have_as_many_rows_as_a_pass(
    work: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether rows are decoded together or alone decides how fast the machine could be."""
    seen = []
    features_of = SoundStorm.features_of

    def noted(self: SoundStorm, frames: torch.Tensor, *more: object) -> torch.Tensor:
        seen.append(frames.shape[0] * frames.shape[1])
        return features_of(self, frames, *more)

    monkeypatch.setattr(SoundStorm, "features_of", noted)
    work.run(work.steps)
    first = work.products(work.steps)[0]
    assert set(seen) == {first.M}
    assert len(seen) * CONFIG.layers * 2 == first.count


def test_a_training_step_does_what_its_shapes_say() -> None:
    torch.manual_seed(0)
    network = SoundStorm(CONFIG)
    codes = torch.randint(11, (2, T, 3))
    mask = draw_mask(torch.tensor([T, T]), 3, torch.Generator().manual_seed(1))
    masked = int(mask.masked.sum())
    assert masked

    def step() -> None:
        sums = masked_loss(network, codes, torch.randint(7, (2, T)), mask)
        torch.autograd.backward(sums.loss.sum())

    flops = training_flops(CONFIG, T, rows=2, masked=masked)
    # torch counts the gradient of a depthwise convolution's weights as that of a full one.
    assert flops == counted(step) - 2 * DEPTHWISE * (CONFIG.width - 1)
    made = products.step_products(CONFIG, T, rows=2, masked=masked)
    assert flops_of(made) + 3 * 2 * DEPTHWISE == pytest.approx(flops)


def in_memory(rows: int, columns: int, transposed: bool) -> torch.Tensor:
    made = torch.randn(columns, rows).T if transposed else torch.randn(rows, columns)
    return made.requires_grad_()


@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_are_products_of_the_same_matrices(transposed: bool) -> None:
    """Those shapes, in memory as they lie, give autograd's gradients as the factors lie."""
    product = Product(M=3, K=5, N=7, right_transposed=transposed)
    left, right = in_memory(3, 5, False), in_memory(5, 7, transposed)
    gradient = torch.randn(3, 7)
    torch.autograd.backward((left @ right).mul(gradient).sum())
    for_left, for_right = products.backward(product)
    assert for_left.flops == for_right.flops == product.flops

    assert (for_left.M, for_left.K, for_left.N) == (3, 7, 5)
    assert for_left.right_transposed is not transposed
    assert left.grad is not None
    assert right.grad is not None
    assert torch.allclose(left.grad, gradient @ right.T)

    assert for_right.left_transposed
    factors = (gradient.T, left) if transposed else (left.T, gradient)
    assert [tuple(factor.shape) for factor in factors] == [
        (for_right.M, for_right.K), (for_right.K, for_right.N),
    ]  # fmt: skip
    made = factors[0] @ factors[1]
    assert torch.allclose(right.grad, made.T if transposed else made)


def test_the_codec_does_what_its_shapes_say() -> None:
    config = MelCodecConfig(
        sample_rate=16_000, hop=64, window=256, mels=20, width=8, hidden=24, blocks=2, levels=3,
        codebook_size=5,
    )  # fmt: skip
    codec = MelCodec(config).eval()
    samples, lengths = torch.zeros(1, 9 * 64), torch.tensor([9 * 64])
    cost = codec_cost.mel_encoder_cost(config, 9, 2, fourier=False)
    assert cost.flops == counted(lambda: codec.encode(samples, lengths, 2))
    assert flops_of(products.mel_encoder_products(config, 9, 2)) == cost.flops

    depthwise = 2 * 9 * config.width * config.kernel * config.blocks
    decoder = codec_cost.mel_decoder_cost(config, 9).flops
    assert flops_of(products.mel_decoder_products(config, 9)) + depthwise == decoder
    sound = codec_cost.griffin_lim_cost(config, 9, fourier=False).flops
    assert flops_of(products.griffin_lim_products(config, 9)) == sound
    vocoder = VocoderConfig(
        sample_rate=16_000, hop=64, window=256, mels=20, width=8, hidden=24, blocks=2, fft=256
    )
    whole = codec_cost.vocoder_cost(vocoder, 9, fourier=False).flops
    assert flops_of(products.vocoder_products(vocoder, 9)) + depthwise == whole
    voice = SourceFilterConfig(
        sample_rate=16_000, hop=64, window=256, mels=20, width=8, hidden=24, blocks=2
    )
    whole = codec_cost.source_filter_cost(voice, 9, fourier=False).flops
    assert flops_of(products.source_filter_products(voice, 9)) + depthwise == whole


def test_a_codec_costs_what_its_own_vocoder_does(tmp_path: Path) -> None:
    shape = {"sample_rate": 16_000, "hop": 64, "window": 256, "mels": 20}
    geometry = MelGeometry(**shape)
    sound = codec_cost.own_sound(tmp_path, geometry)
    assert isinstance(sound, GriffinLim)
    assert codec_cost.sound_cost(sound, 9) == codec_cost.griffin_lim_cost(geometry, 9)
    assert products.sound_products(sound, 9) == products.griffin_lim_products(geometry, 9)

    folder = tmp_path / OWN_VOCODER
    vocoder = VocoderConfig(**shape, width=8, hidden=24, blocks=2, fft=256)
    save_vocoder(folder, config=vocoder, weights=Vocoder(vocoder).state_dict())
    sound = codec_cost.own_sound(tmp_path, geometry)
    assert codec_cost.sound_cost(sound, 9) == codec_cost.vocoder_cost(vocoder, 9)
    assert products.sound_products(sound, 9) == products.vocoder_products(vocoder, 9)

    voice = SourceFilterConfig(**shape, width=8, hidden=24, blocks=2)
    save_source_filter(folder, config=voice, weights=SourceFilter(voice).pitch.state_dict())
    sound = codec_cost.own_sound(tmp_path, geometry)
    assert codec_cost.sound_cost(sound, 9) == codec_cost.source_filter_cost(voice, 9)
    assert products.sound_products(sound, 9) == products.source_filter_products(voice, 9)


def test_equal_shapes_are_one_product() -> None:
    one, other = Product(M=2, K=3, N=4, count=2), Product(M=2, K=3, N=5)
    assert merged([one, other, replace(one, count=0.5)]) == [replace(one, count=2.5), other]


def test_only_attention_grows_with_the_square_of_the_length() -> None:
    def rest(frames: int) -> float:
        square = CONFIG.layers * flops_of(products.attention(1, frames, 2, CONFIG.width))
        return conformer_flops(CONFIG.conformer, frames) - square

    assert rest(2 * T) == 2 * rest(T)
