"""How many levels a user gets for a count, a bit rate, or nothing."""

from __future__ import annotations

from fractions import Fraction

import pytest

from stages.codec.levels import choose_levels
from stages.errors import DataMismatch

LYRA = {"name": "lyra", "available": 46, "frame_rate": Fraction(50), "codebook_size": 16}
ENCODEC = {"name": "e", "available": 32, "frame_rate": Fraction(75), "codebook_size": 1024}


@pytest.mark.parametrize(
    ("codec", "bitrate", "levels"),
    [
        (LYRA, 3.0, 15),
        (LYRA, 9.2, 46),
        (LYRA, 0.6, 3),  # 0.6 * 1000 / 200 is 2.9999999999999996 in floats of 0.2 * 3
        (LYRA, 3.19, 15),
        (ENCODEC, 1.5, 2),
        (ENCODEC, 6, 8),
        (ENCODEC, 24, 32),
    ],
)
def test_a_bit_rate_buys_the_levels_that_fit(
    codec: dict[str, object], bitrate: float, levels: int
) -> None:
    assert choose_levels(**codec, default=1, bitrate=bitrate) == levels  # type: ignore[arg-type]


def test_the_count_or_the_default() -> None:
    assert choose_levels(**LYRA, default=46) == 46  # type: ignore[arg-type]
    assert choose_levels(**LYRA, default=46, levels=7) == 7  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "asked", [{"levels": 47}, {"levels": 0}, {"bitrate": 0.1}, {"bitrate": 12.0}]
)
def test_what_cannot_be_had_says_what_can(asked: dict[str, float]) -> None:
    with pytest.raises(DataMismatch, match=r"1 to 46 levels of 0\.2 kbit/s each \(up to 9\.2\)"):
        choose_levels(**LYRA, default=46, **asked)  # type: ignore[arg-type]


def test_both_or_nonsense_is_refused() -> None:
    with pytest.raises(DataMismatch, match="not both"):
        choose_levels(**LYRA, default=1, levels=3, bitrate=3.0)  # type: ignore[arg-type]
    for bitrate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(DataMismatch, match="positive"):
            choose_levels(**LYRA, default=1, bitrate=bitrate)  # type: ignore[arg-type]
