"""The Conformer: equal to fairseq2's, and blind to padding and neighbours."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stages.errors import DataMismatch
from stages.nn.conformer import Conformer, ConformerBlock, ConformerConfig, padding_mask
from stages.nn.rotary import rotary_table

CONFIG = ConformerConfig(layers=2, heads=4, width=32, feed_forward=48, kernel=5, dropout=0.0)


def make_conformer(config: ConformerConfig = CONFIG) -> Conformer:
    torch.manual_seed(0)
    return Conformer(config).eval()


def test_block_equals_fairseq2() -> None:
    block = make_conformer().blocks[0]
    assert isinstance(block, ConformerBlock)
    with torch.no_grad():  # norms and biases away from their plain start
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs, layout, cache = _fairseq2_block(block)
    x, lengths = torch.randn(3, 11, 32), torch.tensor([11, 4, 7])
    with torch.inference_mode():
        for mask in (None, padding_mask(lengths, 11)):
            ours = block(x, rotary_table(11, 8, device=x.device), mask)
            expected = theirs(x, layout(x, None if mask is None else lengths.tolist()), cache())
            if mask is not None:
                ours, expected = ours[mask], expected[mask]
            torch.testing.assert_close(ours, expected, atol=2e-6, rtol=2e-5)


def _fairseq2_block(block: ConformerBlock):  # type: ignore[no-untyped-def]
    """fairseq2's block with `block`'s weights, and what it takes to call it."""
    from fairseq2.gang import create_fake_gangs
    from fairseq2.models.conformer import ConformerBlock as TheirBlock
    from fairseq2.models.conformer import ConformerConvolution
    from fairseq2.models.transformer import (
        AttentionBiasCache,
        IdentityBias,
        StandardFeedForwardNetwork,
        StandardMultiheadAttention,
    )
    from fairseq2.models.transformer.sdpa.torch import TorchSDPA
    from fairseq2.nn import BatchLayout, RotaryEncoder, StandardLayerNorm

    def norm() -> StandardLayerNorm:
        return StandardLayerNorm(32, bias=True)

    # Naming the gangs and the device keeps fairseq2 from its six-second start.
    cpu = torch.device("cpu")
    gangs = create_fake_gangs(cpu)

    def feed_forward() -> StandardFeedForwardNetwork:
        return StandardFeedForwardNetwork(
            32, 48, bias=True, inner_activation=torch.nn.SiLU(), gangs=gangs, device=cpu
        )

    attention = StandardMultiheadAttention(
        32,
        4,
        TorchSDPA(IdentityBias()),
        pos_encoder=RotaryEncoder(8, 100, device=cpu),
        gangs=gangs,
        device=cpu,
    )
    convolution = ConformerConvolution(32, 5, norm_type="layer_norm")
    theirs = TheirBlock(
        norm(),
        feed_forward(),
        norm(),
        attention,
        norm(),
        convolution,
        norm(),
        feed_forward(),
        norm(),
    ).eval()
    names = {
        "feed_forward1_norm": "ffn1_layer_norm",
        "feed_forward2_norm": "ffn2_layer_norm",
        "feed_forward1.inner": "ffn1.inner_proj",
        "feed_forward1.outer": "ffn1.output_proj",
        "feed_forward2.inner": "ffn2.inner_proj",
        "feed_forward2.outer": "ffn2.output_proj",
        "attention_norm": "self_attn_layer_norm",
        "attention.out": "self_attn.output_proj",
        "convolution_norm": "conv_layer_norm",
        "convolution.norm": "conv.layer_norm",
        "convolution.gate": "conv.pointwise_conv1",
        "convolution.out": "conv.pointwise_conv2",
        "convolution.depthwise": "conv.depthwise_conv",
        "norm": "layer_norm",
    }
    state: dict[str, Tensor] = {}
    for name, value in block.state_dict().items():
        module, kind = name.rsplit(".", 1)
        if module == "attention.qkv":
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                state[f"self_attn.{letter}_proj.{kind}"] = part
        else:
            state[f"{names[module]}.{kind}"] = value
    shapes = {name: value.shape for name, value in theirs.state_dict().items()}
    assert set(shapes) == set(state)
    theirs.load_state_dict({name: value.reshape(shapes[name]) for name, value in state.items()})
    return theirs, BatchLayout.of, AttentionBiasCache


def test_row_does_not_depend_on_padding_or_neighbours() -> None:
    conformer = make_conformer()
    lengths = torch.tensor([9, 1, 5])
    x = torch.randn(3, 9, 32)
    mask = padding_mask(lengths, 9)
    assert mask is not None
    poisoned = torch.where(mask[:, :, None], x, 1e4)
    with torch.inference_mode():
        batch = conformer(poisoned, mask)
        for row, length in enumerate(lengths.tolist()):
            alone = conformer(x[row : row + 1, :length])
            torch.testing.assert_close(batch[row, :length], alone[0], atol=2e-6, rtol=2e-5)


def test_frames_see_both_directions_and_their_place() -> None:
    conformer = make_conformer()
    x = torch.randn(1, 20, 32)
    with torch.inference_mode():
        before = conformer(x)
        x[0, 10] += 1.0
        after = conformer(x)
        assert ((before - after).abs().amax(dim=-1) > 1e-7).all()
        assert not torch.allclose(conformer(x.flip(1)).flip(1), after, atol=1e-3)


def test_stops_after_a_layer() -> None:
    conformer = make_conformer()
    x = torch.randn(1, 6, 32)
    with torch.inference_mode():
        hidden = conformer(x, layers=1)
        assert torch.equal(
            conformer.blocks[1](hidden, rotary_table(6, 8, device=x.device), None), conformer(x)
        )


def test_mask_is_left_out_where_rows_are_full() -> None:
    assert padding_mask(torch.tensor([4, 4]), 4) is None
    mask = padding_mask(torch.tensor([4, 2]), 4)
    assert mask is not None
    assert mask.tolist() == [[True] * 4, [True, True, False, False]]


def test_without_gradients_it_gives_the_same_bits_and_keeps_its_input() -> None:
    conformer = make_conformer()
    x = torch.randn(2, 9, 32)
    given = x.clone()
    with_gradients = conformer(x)
    with torch.inference_mode():
        without = conformer(x)
    assert with_gradients.requires_grad
    assert torch.equal(with_gradients.detach(), without)
    assert torch.equal(x, given)


def test_dropout_only_in_training() -> None:
    config = ConformerConfig(layers=1, heads=2, width=8, feed_forward=8, dropout=0.5)
    conformer = make_conformer(config)
    x = torch.randn(1, 6, 8)
    assert torch.equal(conformer(x), conformer(x))
    conformer.train()
    assert not torch.equal(conformer(x), conformer(x))


@pytest.mark.parametrize(
    "change",
    [{"layers": 0}, {"heads": 3}, {"heads": 32}, {"kernel": 4}, {"dropout": 1.0}, {"width": -32}],
)
def test_refuses_what_cannot_be_built(change: dict[str, int]) -> None:
    good = {"layers": 2, "heads": 4, "width": 32, "feed_forward": 48}
    with pytest.raises(DataMismatch):
        ConformerConfig(**{**good, **change})  # type: ignore[arg-type]
