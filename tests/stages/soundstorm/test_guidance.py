"""How far each level is guided."""

from __future__ import annotations

import pytest

from stages.errors import DataMismatch
from stages.soundstorm.guidance import (
    Guidance,
    check_guidance,
    guidance_at,
    guidance_text,
    parse_guidance,
)


@pytest.mark.parametrize(
    ("text", "guidance", "short"),
    [
        ("2", 2.0, "2"),
        ("1.5,1.5", 1.5, "1.5"),
        ("2,2,1", (2.0, 2.0, 1.0), "2,2,1"),
        ("2,1,1", (2.0, 1.0), "2,1"),
        ("1,1,1", 1.0, "1"),
    ],
)
def test_what_decodes_alike_is_written_alike(text: str, guidance: Guidance, short: str) -> None:
    found = parse_guidance(text, 3)
    assert (found, guidance_text(found)) == (guidance, short)
    assert parse_guidance(short, 3) == found


def test_the_last_repeats() -> None:
    assert [guidance_at((3.0, 2.0, 1.0), level) for level in range(5)] == [3, 2, 1, 1, 1]
    assert [guidance_at(2.0, level) for level in range(2)] == [2, 2]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "--guidance  is neither a number"),
        ("2;1", "neither a number, such as 2, nor a list of one a level"),
        ("2,-1", "a guidance of -1.0 is not 0 or more"),
        ("nan", "a guidance of nan is not 0 or more"),
        ("1e39", r"a guidance of 1e\+39 is beyond 1000"),
        ("2,2,2,1", "--guidance 2,2,2,1 names 4 levels while the model makes 3"),
    ],
)
def test_what_cannot_be_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(DataMismatch, match=sentence):
        parse_guidance(text, 3)


def test_tells_a_limit_from_what_the_model_makes() -> None:
    with pytest.raises(DataMismatch, match="names 3 levels while 2 levels are to be made"):
        parse_guidance("2,2,1", 2, limited=True)


def test_each_level_is_checked() -> None:
    with pytest.raises(DataMismatch, match="a guidance of inf"):
        check_guidance((1.0, float("inf")))
