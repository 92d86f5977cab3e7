"""Which settings an ablation has, and what they are called."""

from __future__ import annotations

import pytest

from stages.ablation.settings import parse_setting, plan
from stages.errors import DataMismatch


def names(**options: object) -> list[str]:
    return [setting.name for setting in plan(4, **options).settings]  # type: ignore[arg-type]


def test_the_papers_settings_by_default() -> None:
    chosen = plan(12)
    assert [setting.name for setting in chosen.settings] == [
        "greedy", "2-1", "4-1", "8-1", "16-1", "32-1", "16-16-1", "32-32-16-1",
        "16-1-t0", "16-1-t0.5", "16-1-t0.8",
    ]  # fmt: skip
    assert chosen.default.name == "16-1"
    assert chosen.default.group == "first level"
    assert chosen.default.passes == 27  # (16, 1, ..., 1) of 12 levels, section 4.1
    more = chosen.settings[7]
    assert more.iterations == (32, 32, 16, *[1] * 9)
    assert more.group == "further levels"


def test_greedy_has_no_temperature_and_comes_once() -> None:
    chosen = plan(3, first_level=[1], iterations=["1"], temperatures=[0.5], default="4,1")
    greedy = [setting for setting in chosen.settings if setting.greedy]
    assert [setting.temperature for setting in greedy] == [0.0]


def test_only_what_is_asked_for_and_the_default() -> None:
    assert names(first_level=[2]) == ["16-1", "2-1"]
    assert names(temperatures=[1.0, 0.5]) == ["16-1", "16-1-t0.5"]
    assert names(iterations=["8"], default="4,2,1") == ["4-2-1", "8"]
    assert plan(4, iterations=["8"], default="4,2,1").settings[0].group == "default"


def test_levels_taken_together_have_names_and_passes_of_their_own() -> None:
    assert names(iterations=["16,1x3", "1x4", "1,1x2"]) == ["16-1", "16-1x3", "1x4", "1-1x2"]
    chosen = plan(12, iterations=["16,1x4", "1,1x11"], default="16,1")
    together, greedy = chosen.settings[1:]
    assert together.iterations == (16, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0)
    assert (together.passes, together.temperature) == (19, 1.0)
    assert (greedy.passes, greedy.temperature, greedy.greedy) == (2, 0.0, False)


def test_a_setting_of_its_own_has_all_options() -> None:
    setting = parse_setting("8,1x2 temperature=0.5", 3)
    assert (setting.group, setting.name) == ("passes", "8-1x2-t0.5")
    assert (setting.iterations, setting.temperature) == ((8, 1, 0), 0.5)
    assert parse_setting("1,1x2 temperature=0.5", 3).name == "1-1x2"  # nothing is sampled
    assert names(settings=["8,1", "8,1 temperature=0.5"]) == ["16-1", "8-1", "8-1-t0.5"]
    both = parse_setting("8,1  guidance=2 temperature=0", 3)
    assert (both.name, both.temperature, both.guidance) == ("8-1-t0-g2", 0.0, 2.0)


def test_a_guided_pass_is_two_and_greedy_can_be_guided() -> None:
    chosen = plan(3, guidances=["1", "2"], settings=["1 guidance=1.5", "1"], default="4,1")
    assert [setting.name for setting in chosen.settings] == [
        "4-1",
        "4-1-g2",
        "greedy-g1.5",
        "greedy",
    ]
    assert [setting.group for setting in chosen.settings][:2] == ["guidance", "guidance"]
    assert [setting.passes for setting in chosen.settings] == [6, 12, 6, 3]


def test_levels_can_be_guided_by_themselves() -> None:
    setting = parse_setting("8,2,1 guidance=2,2,1", 4)
    assert (setting.name, setting.passes) == ("8-2-1-g2-2-1", 2 * (8 + 2) + 1 + 1)
    assert setting.to_json()["guidance"] == [2.0, 2.0, 1.0]
    assert parse_setting("8,1x2 guidance=1,1,2", 3).passes == 8 + 2 * 1  # what shares a pass
    assert names(guidances=["3,1"]) == ["16-1", "16-1-g3-1"]


def test_shallow_models_take_what_they_can() -> None:
    assert "16" in [setting.name for setting in plan(2).settings]
    assert plan(1, first_level=[2], default="16").default.iterations == (16,)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"iterations": ["4,0"]}, "--iterations 4,0 is no list"),
        ({"default": "x"}, "--default x is no list"),
        ({"iterations": ["1,1,1,1,1"]}, "names 5 levels while the model makes 4"),
        ({"first_level": [16]}, "16-1 is the default itself"),
        ({"temperatures": [float("inf")]}, "is not 0 or more"),
        ({"settings": [""]}, "--setting  is no list"),
        ({"settings": ["1x5"]}, "names 5 levels while the model makes 4"),
        ({"settings": ["4,1 temperature=x"]}, "--setting 4,1 temperature=x does not go on"),
        ({"settings": ["4,1 heat=1"]}, "--setting 4,1 heat=1 does not"),
        ({"settings": ["4,1 temperature=-1"]}, "is not 0 or more"),
        ({"settings": ["4,1 guidance=-1"]}, "a guidance of -1.0 is not 0 or more"),
        ({"settings": ["4,1 guidance=2 guidance=3"]}, "does not go on"),
        ({"settings": ["4,1 guidance=x"]}, "--setting 4,1 guidance x is neither a number"),
        ({"guidances": ["2,2,2,2,1"]}, "names 5 levels while the model makes 4"),
    ],
)
def test_what_cannot_be_is_one_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataMismatch, match=sentence):
        names(**options)
