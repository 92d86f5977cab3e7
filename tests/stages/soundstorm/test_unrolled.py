"""Decoding with gradients: what comes out is what decoding gives, and who is taught by it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stages.soundstorm.decoding import DecodeOptions, DecodeRequest, decode
from stages.soundstorm.network import SoundStorm
from stages.soundstorm.unrolled import PromptedRows, sample_first, unroll

LEVELS = 3


def make_rows(lengths: list[int], prompts: list[int], seed: int = 0) -> PromptedRows:
    draw = torch.Generator().manual_seed(seed)
    B, T = len(lengths), max(lengths)
    return PromptedRows(
        semantic=torch.randint(7, (B, T), generator=draw),
        acoustic=torch.randint(11, (B, T, LEVELS), generator=draw),
        lengths=torch.tensor(lengths),
        prompts=torch.tensor(prompts),
    )


def make_codebooks() -> Tensor:
    return torch.randn(LEVELS, 11, 4, generator=torch.Generator().manual_seed(9))


def requests_of(rows: PromptedRows, ids: list[str]) -> list[DecodeRequest]:
    ends = zip(rows.lengths.tolist(), rows.prompts.tolist(), ids, strict=True)
    return [
        DecodeRequest(
            row_id=name, semantic=rows.semantic[row, :end], prompt=rows.acoustic[row, :start]
        )
        for row, (end, start, name) in enumerate(ends)
    ]


@pytest.mark.parametrize("levels", [2, 3])
def test_it_is_greedy_decoding_summed(network: SoundStorm, levels: int) -> None:
    rows, books = make_rows([9, 6, 7], [2, 0, 5]), make_codebooks()
    made = unroll(network, rows, books, levels=levels, graded=0, first=None)
    options = DecodeOptions(iterations=(1,) * levels)
    for row, decoded in enumerate(decode(network, requests_of(rows, ["a", "b", "c"]), options)):
        wanted = sum(books[q][decoded.acoustic[:, q]] for q in range(levels))
        torch.testing.assert_close(made[row, : len(decoded.acoustic)], wanted)


def test_a_first_level_that_is_given_stays(network: SoundStorm) -> None:
    rows, books = make_rows([8], [3]), make_codebooks()
    first = (rows.acoustic[..., 0] + 1) % 11
    made = unroll(network, rows, books, levels=1, graded=1, first=first)
    wanted = torch.where(rows.generated, first, rows.acoustic[..., 0])
    assert torch.equal(made, books[0][wanted])
    assert not made.requires_grad


def test_gradients_are_those_of_the_mean_entry(network: SoundStorm) -> None:
    rows, books = make_rows([9, 5], [2, 1]), make_codebooks()
    weight = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(1))
    made = unroll(network, rows, books, levels=1, graded=1, first=None)
    (weight * made)[rows.real].sum().backward()
    found = network.head_weight.grad.clone()  # type: ignore[union-attr]
    network.zero_grad()
    hidden = rows.acoustic.masked_fill(~(rows.real & ~rows.generated)[..., None], 11)
    odds = network.head(0, network.features(hidden, rows.semantic, rows.real)).softmax(dim=-1)
    (weight * (odds @ books[0]))[rows.generated].sum().backward()
    torch.testing.assert_close(found, network.head_weight.grad)


def test_only_graded_levels_and_generated_frames_teach(network: SoundStorm) -> None:
    rows, books = make_rows([9, 5], [2, 1]), make_codebooks()
    made = unroll(network, rows, books, levels=3, graded=2, first=None)
    made[rows.real].sum().backward()
    grad = network.head_weight.grad
    assert grad is not None
    assert [bool(level.any()) for level in grad] == [True, True, False]
    given = unroll(network, rows, books, levels=3, graded=2, first=None)[~rows.generated].sum()
    network.zero_grad()
    given.backward()
    assert not network.head_weight.grad.any()  # type: ignore[union-attr]


def test_the_first_level_is_sampled_as_decoding_samples_it(
    make_network: Callable[..., SoundStorm],
) -> None:
    network = make_network(sharpness=2.0).train()
    rows = make_rows([30, 20], [4, 0])
    tokens = sample_first(network, rows, passes=4, seeds=[5, 6])
    assert network.training
    network.eval()
    options = DecodeOptions(iterations=(4,))
    for row, decoded in enumerate(decode(network, requests_of(rows, ["5", "6"]), options)):
        assert torch.equal(tokens[row, : len(decoded.acoustic)], decoded.acoustic[:, 0])
    assert torch.equal(tokens[0, :4], rows.acoustic[0, :4, 0])
    assert not torch.equal(tokens, sample_first(network, rows, passes=4, seeds=[7, 8]))


def test_more_padding_changes_nothing(network: SoundStorm) -> None:
    rows, books = make_rows([9, 6], [2, 0]), make_codebooks()
    longer = rows.padded(16)
    assert longer.semantic.shape == (2, 16)
    assert longer.acoustic.shape == (2, 16, LEVELS)
    assert longer.padded(8).acoustic.shape == longer.acoustic.shape
    first = sample_first(network, rows, passes=3, seeds=[4, 7])
    other = sample_first(network, longer, passes=3, seeds=[4, 7])
    assert torch.equal(other[:, :9][rows.real], first[rows.real])
    made = unroll(network, rows, books, levels=3, graded=0, first=first)
    again = unroll(network, longer, books, levels=3, graded=0, first=other)
    torch.testing.assert_close(again[:, :9][rows.real], made[rows.real])
