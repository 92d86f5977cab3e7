"""Which settings of decoding to compare (paper, section 4.3, Figure 4 and Table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.errors import DataMismatch
from stages.soundstorm.schedule import PAPER_ITERATIONS, iterations_text, parse_iterations

DEFAULT = "default"
FIRST_LEVEL = "first level"
FURTHER_LEVELS = "further levels"
TEMPERATURE = "temperature"
PASSES = "passes"

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
    """Passes of each level, coarse first; 0 where it is taken together with the one before it."""

    temperature: float
    """0 where every level has one pass: nothing is sampled then."""

    @property
    def passes(self) -> int:
        """Of the network, for all levels."""
        return sum(self.iterations)

    @property
    def greedy(self) -> bool:
        """Whether every level takes its likeliest tokens at once, and has a pass of its own."""
        return set(self.iterations) == {1}

    @property
    def name(self) -> str:
        """What its folder is called, such as `16-1`, `greedy`, `16-1x4` or `16-1-t0.5`."""
        if self.greedy:
            return "greedy"
        text = iterations_text(self.iterations).replace(",", "-")
        plain = max(self.iterations) == 1 or self.temperature == 1.0
        return text if plain else f"{text}-t{self.temperature:g}"

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
    settings: Sequence[str] | None = None,
    default: str = PAPER_ITERATIONS,
) -> Plan:
    """Choose the settings; where none is asked for, the paper's and a few temperatures.

    Args:
        levels: Q, of the model.
        first_level: passes of the first level, each with greedy further levels.
        iterations: lists of passes as `decode --iterations` takes them, at temperature 1.
        temperatures: of sampling, each with the default's passes.
        settings: lists of passes, each with what else is particular about it: see
            `parse_setting`.
        default: passes of the setting that all others are held against, at temperature 1.

    Raises:
        DataMismatch: if a setting is malformed, or the default is the only one.
    """
    if not (first_level or iterations or temperatures or settings):
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
    wanted += [parse_setting(text, levels) for text in settings or ()]
    base = _setting(DEFAULT, reference)
    found: list[Setting] = []
    for setting in [*wanted, base]:
        if not any(setting.same_as(other) for other in found):
            found.append(setting)
    chosen = next(setting for setting in found if setting.same_as(base))
    if len(found) == 1:
        raise DataMismatch(
            f"{chosen.name} is the default itself: name another setting to hold against it"
        )
    if chosen.group == DEFAULT:
        found = [chosen, *found[:-1]]
    return Plan(settings=found, default=chosen)


def parse_setting(text: str, levels: int, *, option: str = "--setting") -> Setting:
    """Read passes with a temperature of their own.

    Args:
        text: a list of passes as `decode --iterations` takes it, and after a blank perhaps the
            temperature (else 1): `8,1 temperature=0.5`.
        levels: Q, of the model.
        option: what the user wrote it after, for messages.

    Raises:
        DataMismatch: if it is anything else.
    """
    passes, _, rest = text.strip().partition(" ")
    iterations = parse_iterations(passes, levels, option=option)
    if not rest:
        return _setting(PASSES, iterations)
    name, _, value = rest.strip().partition("=")
    try:
        temperature = float(value)
    except ValueError:
        name = ""
    if name != "temperature":
        raise DataMismatch(
            f"{option} {text} does not go on with a temperature, as in "
            f"{PAPER_ITERATIONS} temperature=0.5"
        )
    return _setting(PASSES, iterations, temperature)


def _setting(group: str, iterations: tuple[int, ...], temperature: float = 1.0) -> Setting:
    if not 0.0 <= temperature < float("inf"):
        raise DataMismatch(f"a temperature of {temperature} is not 0 or more")
    greedy = max(iterations) == 1
    return Setting(
        group=group, iterations=iterations, temperature=0.0 if greedy else float(temperature)
    )
