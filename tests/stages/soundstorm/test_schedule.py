"""The schedule's exact counts, the noise's slope, and the option that names the passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.errors import DataMismatch
from stages.soundstorm.schedule import (
    Term,
    iterations_text,
    masked_after,
    noise_multiplier,
    parse_iterations,
    terms,
)


def test_counts_of_the_paper() -> None:
    """500 frames, 16 passes: 497 are due after the first."""
    counts = [masked_after(500, i, 16) for i in range(16)]
    assert counts == [
        497, 490, 478, 461, 440, 415, 386, 353, 317, 277, 235, 191, 145, 97, 49, 0,
    ]  # fmt: skip


def test_one_pass_masks_nothing() -> None:
    assert masked_after(500, 0, 1) == 0
    assert masked_after(500, -1, 1) == 500


def test_halves_are_exact() -> None:
    """cos(pi / 3) is 1/2, and no rounding may turn 250 into 249."""
    for iterations in range(3, 300, 3):
        assert masked_after(500, 2 * iterations // 3 - 1, iterations) == 250


@given(st.integers(0, 100_000), st.integers(1, 64))
def test_counts_fall_from_all_to_none(tokens: int, iterations: int) -> None:
    counts = [masked_after(tokens, i, iterations) for i in range(-1, iterations)]
    assert counts[0] == tokens
    assert counts[-1] == 0
    assert counts == sorted(counts, reverse=True)
    assert tokens == 0 or counts[1] < tokens, "the first pass sets at least one token"


def test_noise_falls_linearly_from_one_to_zero() -> None:
    assert [noise_multiplier(i, 5) for i in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert noise_multiplier(0, 1) == 0.0


def test_last_number_of_passes_repeats() -> None:
    assert parse_iterations("16,1", 12) == (16, *[1] * 11)
    assert sum(parse_iterations("16,1", 12)) == 27
    assert parse_iterations("32,32,16,1", 5) == (32, 32, 16, 1, 1)
    assert parse_iterations("1", 3) == (1, 1, 1)


def test_a_term_takes_several_levels_together() -> None:
    assert parse_iterations("16,1x3", 4) == (16, 1, 0, 0)
    assert parse_iterations("16,1,2x4,1x2", 8) == (16, 1, 2, 0, 0, 0, 1, 0)
    assert parse_iterations("4x2", 2) == (4, 0)
    assert sum(parse_iterations("16,1,1,1x4,1x5", 12)) == 20
    assert parse_iterations("16,1x1", 3) == (16, 1, 1)


def test_last_term_repeats_and_is_cut_where_the_levels_end() -> None:
    assert parse_iterations("16,1x4", 12) == (16, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0)
    assert parse_iterations("2x3", 4) == (2, 0, 0, 2)


def test_terms_say_which_levels_share_their_passes() -> None:
    assert terms((16, 1, 2, 0, 0, 1)) == [
        Term(first=0, levels=1, passes=16),
        Term(first=1, levels=1, passes=1),
        Term(first=2, levels=3, passes=2),
        Term(first=5, levels=1, passes=1),
    ]
    assert list(terms((3, 0))[0].indices) == [0, 1]


@pytest.mark.parametrize(
    ("iterations", "text"),
    [((16, *[1] * 11), "16,1"), ((1, 1), "1"), ((32, 32, 16, 1, 1), "32,32,16,1"), ((4, 2), "4,2"),
     ((16, 1, 0, 0, 1, 0), "16,1x3"), ((1, 0, 1), "1x2"), ((1, 1, 0), "1,1x2"), ((5,), "5")],
)  # fmt: skip
def test_passes_are_written_as_short_as_can_be(iterations: tuple[int, ...], text: str) -> None:
    assert iterations_text(iterations) == text


@given(st.integers(1, 3), st.lists(st.integers(0, 3), max_size=11))
def test_what_is_written_is_read_as_it_was(first: int, further: list[int]) -> None:
    iterations = (first, *further)
    assert parse_iterations(iterations_text(iterations), len(iterations)) == iterations


@pytest.mark.parametrize(
    "text",
    ["", "16,", "0", "4,-1", "a", "1.5", "1,1,1,1", "1x0", "1x-1", "0x2", "x2", "1x", "1x2x2",
     "1,1x3", "1x4"],
)  # fmt: skip
def test_refuses_other_words(text: str) -> None:
    with pytest.raises(DataMismatch, match="--iterations"):
        parse_iterations(text, 3)


def test_passes_have_a_bound() -> None:
    assert parse_iterations("10000", 1) == (10_000,)
    for text in ("1,10001", "99999999999999999999,1"):
        with pytest.raises(DataMismatch, match=f"^--iterations {text} has more than 10000 passes"):
            parse_iterations(text, 3)


def test_tells_a_limit_from_what_the_model_makes() -> None:
    for limited, why in ((False, "the model makes 3"), (True, "3 levels are to be made")):
        with pytest.raises(DataMismatch, match=f"names 4 levels while {why}$"):
            parse_iterations("1,1,1,1", 3, limited=limited)
