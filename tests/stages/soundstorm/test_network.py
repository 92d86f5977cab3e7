"""The network's sums, shapes and heads, and its configuration."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from stages.errors import DataMismatch
from stages.nn.conformer import padding_mask
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.network import SoundStorm


def test_frame_embedding_is_the_sum_over_levels(network: SoundStorm) -> None:
    acoustic = torch.randint(12, (2, 5, 3))  # 11 is the mask
    expected = torch.zeros(2, 5, 16)
    for b in range(2):
        for t in range(5):
            for q in range(3):
                code = int(acoustic[b, t, q])
                expected[b, t] += network.acoustic_table[33 if code == 11 else 11 * q + code]
    torch.testing.assert_close(network.embed_levels(acoustic), expected)
    for level in range(3):
        parts = network.embed_levels(acoustic, skip=level) + network.embed_level(
            level, acoustic[:, :, level]
        )
        torch.testing.assert_close(parts, expected)


def test_levels_have_tables_of_their_own_and_share_one_mask(network: SoundStorm) -> None:
    code, masked = torch.tensor([4]), torch.tensor([network.config.mask_token])
    assert not torch.equal(network.embed_level(0, code), network.embed_level(1, code))
    assert torch.equal(network.embed_level(0, masked), network.embed_level(2, masked))


def test_sum_leaves_out_the_only_level(make_network) -> None:  # type: ignore[no-untyped-def]
    network = make_network(levels=1)
    acoustic = torch.randint(12, (1, 4, 1))
    assert not network.embed_levels(acoustic, skip=0).any()


def test_heads_differ_and_take_chosen_frames(network: SoundStorm) -> None:
    features = network.features(torch.randint(12, (2, 5, 3)), torch.randint(7, (2, 5)))
    assert features.shape == (2, 5, 16)
    everywhere = network.head(1, features)
    torch.testing.assert_close(network.head(1, features[0, 2:4]), everywhere[0, 2:4])
    assert not torch.allclose(network.head(2, features), everywhere)


def test_condition_matters(network: SoundStorm) -> None:
    acoustic = torch.full((1, 5, 3), 11)
    first = network.features(acoustic, torch.zeros(1, 5, dtype=torch.long))
    second = network.features(acoustic, torch.ones(1, 5, dtype=torch.long))
    assert not torch.allclose(first, second, atol=1e-3)


def test_padding_tokens_do_not_matter(network: SoundStorm) -> None:
    acoustic, semantic = torch.randint(12, (2, 6, 3)), torch.randint(7, (2, 6))
    mask = padding_mask(torch.tensor([6, 4]), 6)
    before = network.features(acoustic, semantic, mask)
    acoustic[1, 4:], semantic[1, 4:] = 3, 2
    after = network.features(acoustic, semantic, mask)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1, :4], after[1, :4])


def test_starts_at_the_loss_of_a_guess() -> None:
    torch.manual_seed(0)
    config = SoundStormConfig(
        levels=8,
        codebook_size=256,
        semantic_codebook_size=64,
        layers=2,
        heads=4,
        width=64,
        feed_forward=128,
    )
    network = SoundStorm(config).eval()
    acoustic, semantic = torch.randint(256, (4, 50, 8)), torch.randint(64, (4, 50))
    frames = network.embed_levels(acoustic) + network.embed_semantic(semantic)
    assert 0.9 < frames.var().item() < 1.1
    all_masked = network.embed_levels(torch.full_like(acoustic, 256))
    assert all_masked.var().item() < 1.3
    logits = network.head(0, network.features(acoustic, semantic))
    loss = F.cross_entropy(logits.flatten(0, 1), torch.randint(256, (200,))).item()
    assert abs(loss - math.log(256) - 1 / 8) < 0.1


def test_paper_model_has_its_size() -> None:
    config = SoundStormConfig(levels=12, codebook_size=1024, semantic_codebook_size=1024)
    with torch.device("meta"):
        network = SoundStorm(config)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert 310e6 < count < 350e6


def test_config_round_trip(network: SoundStorm) -> None:
    value = network.config.to_json()
    assert SoundStormConfig.from_json(value, where="config.json") == network.config


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"levels": None}, "does not set levels"),
        ({"colour": 3}, "sets colour, which"),
        ({"levels": "three"}, "sets levels to 'three': it must be a whole number"),
        ({"heads": 3}, "does not split into 3 heads"),
        ({"codebook_size": 0}, "at least one"),
    ],
)
def test_config_refusals(network: SoundStorm, change: dict[str, object], sentence: str) -> None:
    value = {**network.config.to_json(), **change}
    value = {name: given for name, given in value.items() if given is not None}
    with pytest.raises(DataMismatch, match=sentence):
        SoundStormConfig.from_json(value, where="config.json")
