"""Mapping semantic frames to acoustic frames: exact, without drift, strict about lengths."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.errors import RowFailure
from stages.semantic.rates import align_semantic, frame_map

RATES = st.builds(Fraction, st.integers(1, 48_000), st.integers(1, 640))


def test_25_to_50_duplicates() -> None:
    assert frame_map(6, Fraction(25), Fraction(50)).tolist() == [0, 0, 1, 1, 2, 2]


def test_50_to_75_gives_one_then_two() -> None:
    # Centres 6.7, 20, 33.3 ms: 20 ms is where frame 1 begins.
    assert frame_map(6, Fraction(50), Fraction(75)).tolist() == [0, 1, 1, 2, 3, 3]


def test_equal_rates_change_nothing() -> None:
    tokens = np.arange(9)[::-1]
    np.testing.assert_array_equal(align_semantic(tokens, Fraction(50), 9, Fraction(50)), tokens)


def test_faster_semantic_frames_are_picked() -> None:
    assert frame_map(3, Fraction(75), Fraction(50)).tolist() == [0, 2, 3]


@given(RATES, RATES, st.integers(1, 300))
def test_each_frame_takes_the_one_that_covers_its_centre(
    semantic: Fraction, acoustic: Fraction, frames: int
) -> None:
    for frame, index in enumerate(frame_map(frames, semantic, acoustic).tolist()):
        centre = (frame + Fraction(1, 2)) / acoustic
        assert index / semantic <= centre < (index + 1) / semantic


@pytest.mark.parametrize(("semantic", "acoustic"), [(25, 50), (50, 75), (25, 75), (50, 50)])
def test_an_hour_ends_where_it_should(semantic: int, acoustic: int) -> None:
    mapped = frame_map(3600 * acoustic, Fraction(semantic), Fraction(acoustic))
    assert mapped[-1] == 3600 * semantic - 1
    assert np.bincount(mapped).max() - np.bincount(mapped).min() <= 1


def test_odd_rates_do_not_overflow_in_an_hour() -> None:
    mapped = frame_map(3600 * 86, Fraction(16_000, 321), Fraction(44_100, 512))
    exact = (3600 * 86 - Fraction(1, 2)) * Fraction(16_000, 321) / Fraction(44_100, 512)
    assert mapped[-1] == int(exact)


@given(st.sampled_from([(25, 50), (50, 75), (25, 75), (50, 50)]), st.integers(8000, 400_000))
def test_what_encoders_and_codecs_round_is_tolerated(rates: tuple[int, int], samples: int) -> None:
    """16 kHz: an encoder that drops its last 25 ms window, a codec that pads its last frame."""
    semantic, acoustic = map(Fraction, rates)
    tokens = np.arange(1 + int((samples - 400) * semantic / 16_000))
    frames = -(-samples * int(acoustic) // 16_000)
    aligned = align_semantic(tokens, semantic, frames, acoustic)
    assert len(aligned) == frames
    assert aligned[-1] == tokens[-1]


@pytest.mark.parametrize("frames", [0, 47, 53])
def test_lengths_that_disagree_fail_the_row(frames: int) -> None:
    for close in (48, 50, 52):
        assert len(align_semantic(np.zeros(25), Fraction(25), close, Fraction(50), tolerance=0))
    with pytest.raises(RowFailure, match=r"25 semantic tokens at 25 Hz last 1\.000 s"):
        align_semantic(np.zeros(25), Fraction(25), frames, Fraction(50), tolerance=0)


def test_no_tokens_fail_the_row() -> None:
    with pytest.raises(RowFailure):
        align_semantic([], Fraction(25), 1, Fraction(50))
