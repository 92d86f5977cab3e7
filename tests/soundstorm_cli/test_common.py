"""What the commands share."""

from __future__ import annotations

from fractions import Fraction

import pytest

from soundstorm_cli.common import parse_seconds
from stages.errors import DataMismatch


@pytest.mark.parametrize(
    ("text", "seconds"), [("3", 3), ("0.1", Fraction(1, 10)), ("1/3", Fraction(1, 3))]
)
def test_seconds_are_exact(text: str, seconds: Fraction) -> None:
    assert parse_seconds(text, "--seconds") == seconds


@pytest.mark.parametrize("text", ["0", "-1", "x", "nan", "1/0", "1e-999999999", "/"])
def test_what_is_no_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(DataMismatch, match="is no number of seconds, such as 3"):
        parse_seconds(text, "--seconds")


@pytest.mark.parametrize("text", ["86401", "1e400", "1e999999999", "inf", "300000/3"])
def test_more_than_a_day_is_refused(text: str) -> None:
    with pytest.raises(DataMismatch, match="is more than a day: give at most 86400"):
        parse_seconds(text, "--seconds")
