"""Curves over time: quartiles by hand, and systems on one axis."""

from __future__ import annotations

import pytest

from stages.evaluation.curves import Curve, curve_of, curves_json


def test_quartiles_of_hand_made_numbers() -> None:
    values = [0.0, 1.0, 2.0, 3.0, 4.0]
    curve = curve_of([((1.5, 4.5), (value, 10.0)) for value in values] + [((1.5,), (2.0,))])
    assert curve is not None
    assert curve.seconds == [1.5, 4.5]
    assert curve.median == [2.0, 10.0]
    assert curve.low == pytest.approx([1.25, 10.0])  # of 0 1 2 2 3 4
    assert curve.high == pytest.approx([2.75, 10.0])
    assert curve.utterances == [6, 5]


def test_nothing_has_no_curve() -> None:
    assert curve_of([]) is None
    assert curve_of([((), ())]) is None
    with pytest.raises(ValueError, match="shorter"):
        curve_of([((1.5, 4.5), (0.1,))])


def test_systems_share_an_axis() -> None:
    long = Curve(seconds=[1.5, 4.5], median=[1.0, 2.0], low=[0.5, 1.5], high=[1.5, 2.5],
                 utterances=[3, 2])  # fmt: skip
    short = Curve(seconds=[1.5], median=[9.0], low=[8.0], high=[10.0], utterances=[3])
    assert curves_json({"long": long, "short": short}) == {
        "seconds": [1.5, 4.5],
        "systems": {
            "long": {
                "median": [1.0, 2.0], "low": [0.5, 1.5], "high": [1.5, 2.5], "utterances": [3, 2],
            },
            "short": {
                "median": [9.0, None], "low": [8.0, None], "high": [10.0, None],
                "utterances": [3, 0],
            },
        },
    }  # fmt: skip
