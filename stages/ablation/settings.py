"""Which settings of decoding to compare (paper, section 4.3, Figure 4 and Table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

from stages.errors import DataMismatch
from stages.soundstorm.schedule import PAPER_ITERATIONS, parse_iterations

DEFAULT = "default"
FIRST_LEVEL = "first level"
FURTHER_LEVELS = "further levels"
TEMPERATURE = "temperature"

FIRST_LEVEL_PASSES = (1, 2, 4, 8, 16, 32)
"""Figure 4's axis."""

FURTHER_PASSES = ("16,16,1", "32,32,16,1")
"""The second is Table 2's `more iterations`."""

TEMPERATURES = (0.0, 0.5, 0.8)
"""The paper decodes at 1."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way of decoding."""

    group: str
    """What it is compared for."""

    iterations: tuple[int, ...]
    """Passes of each level, coarse first."""

    temperature: float
    """0 where every level has one pass: nothing is sampled then."""

    @property
    def passes(self) -> int:
        """Of the network, for all levels."""
        return sum(self.iterations)

    @property
    def greedy(self) -> bool:
        """Whether every level takes its likeliest tokens at once."""
        return max(self.iterations) == 1

    @property
    def first_level_only(self) -> bool:
        """Whether all levels but the first are greedy."""
        return max(self.iterations[1:], default=1) == 1

    @property
    def name(self) -> str:
        """What its folder is called, such as `16-1`, `greedy` or `16-1-t0.5`."""
        if self.greedy:
            return "greedy"
        text = "-".join(map(str, _shortest(self.iterations)))
        return text if self.temperature == 1.0 else f"{text}-t{self.temperature:g}"

    def same_as(self, other: Setting) -> bool:
        """Whether both decode alike, whatever they are compared for."""
        return (self.iterations, self.temperature) == (other.iterations, other.temperature)

    def to_json(self) -> dict[str, Any]:
        return {
            "group": self.group,
            "name": self.name,
            "iterations": list(self.iterations),
            "temperature": self.temperature,
            "passes": self.passes,
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings to compare."""

    settings: list[Setting]
    """In the order of the table, each way of decoding once."""

    default: Setting
    """That all others are held against; one of `settings`."""


def plan(
    levels: int,
    *,
    first_level: Sequence[int] | None = None,
    iterations: Sequence[str] | None = None,
    temperatures: Sequence[float] | None = None,
    default: str = PAPER_ITERATIONS,
) -> Plan:
    """Choose the settings; where none is asked for, the paper's and a few temperatures.

    Args:
        levels: Q, of the model.
        first_level: passes of the first level, each with greedy further levels.
        iterations: lists of passes as `decode --iterations` takes them, at temperature 1.
        temperatures: of sampling, each with the default's passes.
        default: passes of the setting that all others are held against, at temperature 1.

    Raises:
        DataMismatch: if a setting is malformed, or the default is the only one.
    """
    if not (first_level or iterations or temperatures):
        first_level, temperatures = FIRST_LEVEL_PASSES, TEMPERATURES
        # A model with few levels has no third to give 16 passes to.
        iterations = [",".join(text.split(",")[:levels]) for text in FURTHER_PASSES]
    reference = parse_iterations(default, levels, option="--default")
    wanted = [
        _setting(
            FIRST_LEVEL, parse_iterations(f"{passes},1" if levels > 1 else f"{passes}", levels)
        )
        for passes in first_level or ()
    ]
    wanted += [
        _setting(FURTHER_LEVELS, parse_iterations(text, levels)) for text in iterations or ()
    ]
    wanted += [_setting(TEMPERATURE, reference, value) for value in temperatures or ()]
    base = _setting(DEFAULT, reference)
    settings: list[Setting] = []
    for setting in [*wanted, base]:
        if not any(setting.same_as(other) for other in settings):
            settings.append(setting)
    chosen = next(setting for setting in settings if setting.same_as(base))
    if len(settings) == 1:
        raise DataMismatch(
            f"{chosen.name} is the default itself: name another setting to hold against it"
        )
    if chosen.group == DEFAULT:
        settings = [chosen, *settings[:-1]]
    return Plan(settings=settings, default=chosen)


def _setting(group: str, iterations: tuple[int, ...], temperature: float = 1.0) -> Setting:
    if not 0.0 <= temperature < float("inf"):
        raise DataMismatch(f"a temperature of {temperature} is not 0 or more")
    greedy = max(iterations) == 1
    return Setting(
        group=group, iterations=iterations, temperature=0.0 if greedy else float(temperature)
    )


def _shortest(iterations: tuple[int, ...]) -> list[int]:
    """The list without the repeats at its end, as a user writes it."""
    last = iterations[-1]
    head = list(dropwhile(lambda passes: passes == last, reversed(iterations)))
    return [*reversed(head), last]
