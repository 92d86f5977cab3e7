"""Networks in other precisions: close to float32, rounded as they say, and never of other rows."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import DataMismatch
from stages.nn import int8 as int8_module
from stages.nn.conformer import Conformer, ConformerBlock, ConformerConfig
from stages.nn.int8 import ENGINES, ROW_ENGINES, Int8Linear, best_engines
from stages.nn.packed import PackedLinear
from stages.nn.precision import (
    PRECISIONS,
    HalfLinear,
    check_precision,
    is_slow,
    to_precision,
)
from stages.nn.transformer import KeyValueCache, Transformer, TransformerConfig
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.decoding import DecodeOptions, DecodeRequest, decode
from stages.soundstorm.network import SoundStorm

CPU = torch.device("cpu")
OTHERS = [name for name in PRECISIONS if name != "float32"]


def make_network() -> SoundStorm:
    torch.manual_seed(0)
    config = SoundStormConfig(
        levels=3, codebook_size=11, semantic_codebook_size=7, layers=2, heads=2, width=32,
        feed_forward=64, dropout=0.0,
    )  # fmt: skip
    network = SoundStorm(config).eval().requires_grad_(False)
    network.head_weight.mul_(6.0)  # an untrained network is unsure; this one has opinions
    return network


def make_requests(*lengths: int) -> list[DecodeRequest]:
    generator = torch.Generator().manual_seed(1)
    return [
        DecodeRequest(
            row_id=f"row-{length}",
            semantic=torch.randint(7, (length,), generator=generator),
            prompt=torch.randint(11, (length // 5, 3), generator=generator),
        )
        for length in lengths
    ]


def make_tokens(frames: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    acoustic = torch.randint(12, (1, frames, 3), generator=generator)
    return acoustic, torch.randint(7, (1, frames), generator=generator)


def error(found: Tensor, exact: Tensor) -> float:
    """Relative, root mean square."""
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("engine", sorted({*ENGINES, *ROW_ENGINES}))
@pytest.mark.parametrize("bias", [True, False])
def test_an_int8_layer_is_off_by_its_rounding_and_no_more(engine: str, bias: bool) -> None:
    if engine not in torch.backends.quantized.supported_engines:
        pytest.skip(f"torch has no {engine} here")
    chosen = torch.backends.quantized.engine
    torch.manual_seed(0)
    linear = nn.Linear(48, 24, bias=bias)
    with torch.no_grad():
        linear.weight[3] *= 100.0  # would spoil its neighbours, if they shared its scale
        linear.weight[5] = 0.0
    x = torch.randn(2, 9, 48)
    with torch.inference_mode():
        found = Int8Linear(linear, engines=(engine,))(x)
        exact = linear(x)
    assert torch.backends.quantized.engine == chosen
    assert found.dtype == torch.float32
    # Half a step of each factor for every product: weights by output channel, inputs by call.
    weight = linear.weight.detach().abs()  # [N, K]
    half_weight = weight.amax(dim=1) / 127 / 2  # [N]
    half_input = float(x.max() - x.min()) / 127 / 2
    most = half_input * (weight + half_weight[:, None]).sum(dim=1)  # [N]
    most = most + half_weight * x.abs().sum(dim=-1, keepdim=True)  # [2, 9, N]
    assert bool(((found - exact).abs() <= most + 1e-5).all())
    assert bool((found - exact).abs().max() > 0.0), "nothing was rounded"


@pytest.mark.parametrize(
    ("inputs", "outputs", "first"),
    [
        (192, 192, "fbgemm"), (768, 192, "fbgemm"), (2048, 512, "fbgemm"), (192, 768, "onednn"),
        (256, 512, "onednn"), (1024, 1024, "onednn"), (4096, 1024, "onednn"),
    ],
)  # fmt: skip
def test_layers_of_few_outputs_have_an_engine_of_their_own(
    inputs: int, outputs: int, first: str
) -> None:
    engines = best_engines(nn.Linear(inputs, outputs, device="meta"))
    assert engines[0] == first
    assert set(engines) == set(ENGINES)


def test_int8_tells_where_there_is_no_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_module, "_supported", lambda: ["none"])
    with pytest.raises(DataMismatch, match="no 8-bit arithmetic for this CPU: use float32"):
        Int8Linear(nn.Linear(4, 4))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_a_packed_layer_multiplies_in_float32(rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(48, 24, bias=bias)
    x = torch.randn(2, 48, rows).transpose(1, 2)  # laid out otherwise than it reads
    with torch.inference_mode():
        found, exact = PackedLinear(linear)(x), linear.double()(x.double())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=1e-5)


def test_packing_tells_where_there_is_no_library_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    with pytest.raises(DataMismatch, match="no oneDNN for this CPU: use float32"):
        PackedLinear(nn.Linear(4, 4))


@pytest.mark.parametrize(("precision", "least", "most"), [
    ("float32-packed", -1.0, 1e-6),  # which may be the same to the bit
    ("int8", 1e-3, 5e-2), ("bfloat16", 1e-3, 2e-2),
    ("float16", 1e-4, 3e-3),
])  # fmt: skip
def test_features_are_near_those_of_float32(precision: str, least: float, most: float) -> None:
    acoustic, semantic = make_tokens()
    with torch.inference_mode():
        exact = make_network().features(acoustic, semantic)
        found = to_precision(make_network(), precision, CPU).features(acoustic, semantic)
    assert found.dtype == torch.float32
    assert least < error(found, exact) < most


@pytest.mark.parametrize("precision", OTHERS)
def test_only_the_blocks_change(precision: str) -> None:
    """Embeddings, heads and norms stay float32, to the bit; every linear layer is another."""
    plain, network = make_network(), to_precision(make_network(), precision, CPU)
    acoustic, semantic = make_tokens()
    features = torch.randn(1, 5, 32)
    with torch.inference_mode():
        assert torch.equal(network.head(1, features), plain.head(1, features))
        assert torch.equal(network.embed_levels(acoustic), plain.embed_levels(acoustic))
        assert torch.equal(network.embed_semantic(semantic), plain.embed_semantic(semantic))
    kind = {"float32-packed": PackedLinear, "int8": Int8Linear}.get(precision, HalfLinear)
    layers = [module for module in network.modules() if isinstance(module, kind)]
    assert len(layers) == sum(isinstance(module, nn.Linear) for module in plain.modules())
    assert not any(isinstance(module, nn.Linear) for module in network.modules())
    for name, parameter in network.named_parameters():
        if "norm" in name or (kind is not HalfLinear and "depthwise" in name):
            assert parameter.dtype == torch.float32, name


def test_float32_changes_nothing() -> None:
    network = make_network()
    before = copy.deepcopy(network.state_dict())
    assert to_precision(network, "float32", CPU) is network
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("precision", OTHERS)
def test_a_row_decodes_alone_as_beside_others(precision: str) -> None:
    network = to_precision(make_network(), precision, CPU)
    requests = make_requests(10, 31, 64, 17)
    options = DecodeOptions(iterations=(4, 2, 1))
    together = decode(network, requests, options)
    for request, result in zip(requests, together, strict=True):
        (alone,) = decode(network, [request], options)
        assert torch.equal(alone.acoustic, result.acoustic)
        torch.testing.assert_close(
            alone.trace.confidence, result.trace.confidence, atol=0, rtol=0, equal_nan=True
        )


@pytest.mark.parametrize("precision", OTHERS)
def test_few_tokens_change(precision: str) -> None:
    options, requests = DecodeOptions(iterations=(1, 1, 1)), make_requests(40, 60, 80, 120)
    exact = decode(make_network(), requests, options)
    found = decode(to_precision(make_network(), precision, CPU), requests, options)
    pairs = zip(exact, found, strict=True)
    same = torch.cat([(a.acoustic == b.acoustic).flatten() for a, b in pairs])
    assert float(same.float().mean()) > 0.9


def test_int8_in_a_transformer_that_counts_on_its_past() -> None:
    config = TransformerConfig(layers=2, heads=2, width=32, feed_forward=64, dropout=0.0)
    torch.manual_seed(0)
    plain = Transformer(config).eval().requires_grad_(False)
    network = to_precision(copy.deepcopy(plain), "int8", CPU)
    x = torch.randn(1, 12, 32)
    with torch.inference_mode():
        cache = KeyValueCache(config, rows=1, capacity=12, device=CPU)
        pieces = [network.extend(part, cache) for part in x.split((8, 1, 1, 1, 1), dim=1)]
        assert 1e-3 < error(torch.cat(pieces, dim=1), plain(x)) < 5e-2


@pytest.mark.parametrize("precision", ["float32-packed", "bfloat16", "float16"])
def test_what_is_not_for_a_transformer(precision: str) -> None:
    config = TransformerConfig(layers=1, heads=2, width=8, feed_forward=8)
    with pytest.raises(DataMismatch, match=f"AudioLM does not run in {precision}"):
        to_precision(Transformer(config), precision, CPU)


def test_refusals() -> None:
    with pytest.raises(
        DataMismatch, match="float8 is no precision: use one of float32, float32-packed, int8"
    ):
        check_precision("float8", CPU)
    for precision, instead in (("int8", "bfloat16 or float16"), ("float32-packed", "float32")):
        told = f"{precision} is for a CPU, not for cuda:0: use {instead} there"
        with pytest.raises(DataMismatch, match=told):
            check_precision(precision, torch.device("cuda:0"))
    for precision in PRECISIONS:
        check_precision(precision, CPU)


def test_what_a_cpu_imitates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    for has in (True, False):
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda has=has: has)
        assert is_slow("bfloat16", CPU) == (not has)
        assert is_slow("float16", CPU)
        assert not is_slow("float32", CPU)
        assert not is_slow("float32-packed", CPU)
        assert not is_slow("int8", CPU)
        assert not is_slow("bfloat16", torch.device("cuda"))


def plain_block(block: ConformerBlock, x: Tensor, mask: Tensor | None) -> Tensor:
    """The block by the book: nothing in place, nothing at once."""
    T, heads = x.shape[1], block.attention.heads
    width = x.shape[2] // heads
    positions = torch.arange(T)[:, None].float()
    angles = positions * 10_000.0 ** (-torch.arange(0, width, 2).float() / width)  # [T, width / 2]

    def turn(values: Tensor) -> Tensor:
        even, odd = values[..., 0::2], values[..., 1::2]
        cosine, sine = angles.cos(), angles.sin()
        turned = (even * cosine - odd * sine, even * sine + odd * cosine)
        return torch.stack(turned, dim=-1).flatten(-2)

    def half(feed_forward: Callable[[Tensor], Tensor], norm: nn.Module) -> Tensor:
        return 0.5 * feed_forward(norm(x))

    def split(values: Tensor) -> Tensor:  # [B, T, D] -> [B, heads, T, width]
        return values.unflatten(-1, (heads, width)).transpose(1, 2)

    x = x + half(block.feed_forward1, block.feed_forward1_norm)
    q, k, v = map(split, block.attention.qkv(block.attention_norm(x)).chunk(3, dim=-1))
    seen = None if mask is None else mask[:, None, None, :]
    attended = F.scaled_dot_product_attention(turn(q), turn(k), v, attn_mask=seen)
    x = x + block.attention.out(attended.transpose(1, 2).flatten(-2))
    x = x + block.convolution(block.convolution_norm(x), mask)
    x = x + half(block.feed_forward2, block.feed_forward2_norm)
    return block.norm(x)


@pytest.mark.parametrize("heads", [1, 2, 4, 8])
@pytest.mark.parametrize("frames", [1, 7, 50])
def test_a_float32_pass_is_the_plain_one_to_the_bit(heads: int, frames: int) -> None:
    torch.manual_seed(heads)
    config = ConformerConfig(layers=2, heads=heads, width=48, feed_forward=64, dropout=0.1)
    conformer = Conformer(config).eval()
    x = torch.randn(2, frames, 48)
    mask = torch.arange(frames) < torch.tensor([[frames], [max(1, frames - 3)]])
    for given in (None, mask):
        expected = x
        with torch.inference_mode():
            for block in conformer.blocks:
                assert isinstance(block, ConformerBlock)
                expected = plain_block(block, expected, given)
            assert torch.equal(conformer(x, given), expected)
        assert torch.equal(conformer(x, given), expected), "with gradients"
