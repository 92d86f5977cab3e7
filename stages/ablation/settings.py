"""Which settings of decoding to compare (paper, section 4.3, Figure 4 and Table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from stages.errors import DataMismatch
from stages.soundstorm.decoding import DecodeOptions
from stages.soundstorm.guidance import (
    UNGUIDED,
    Guidance,
    guidance_json,
    guidance_text,
    parse_guidance,
    runs_a_pass,
)
from stages.soundstorm.schedule import (
    PAPER_ITERATIONS,
    iterations_text,
    parse_iterations,
    terms,
)

DEFAULT = "default"
FIRST_LEVEL = "first level"
FURTHER_LEVELS = "further levels"
TEMPERATURE = "temperature"
GUIDANCE = "guidance"
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

    guidance: Guidance = UNGUIDED
    """As `DecodeOptions.guidance`; any but 1 makes a level's passes twice."""

    @property
    def passes(self) -> int:
        """Of the network, for all levels; guided ones are two."""
        return sum(
            term.passes * runs_a_pass(self.guidance, term.indices)
            for term in terms(self.iterations)
        )

    @property
    def greedy(self) -> bool:
        """Whether every level takes its likeliest tokens at once, and has a pass of its own."""
        return set(self.iterations) == {1}

    @property
    def name(self) -> str:
        """What its folder is called, such as `16-1`, `greedy-g2`, `16-1x4` or `16-1-t0.5`."""
        text = iterations_text(self.iterations).replace(",", "-")
        name = "greedy" if self.greedy else text
        if max(self.iterations) > 1 and self.temperature != 1.0:
            name += f"-t{self.temperature:g}"
        if self.guidance != UNGUIDED:
            name += f"-g{guidance_text(self.guidance).replace(',', '-')}"
        return name

    def same_as(self, other: Setting) -> bool:
        """Whether both decode alike, whatever they are compared for."""
        return replace(self, group=other.group) == other

    def to_json(self) -> dict[str, Any]:
        return {
            "group": self.group,
            "name": self.name,
            "iterations": list(self.iterations),
            "temperature": self.temperature,
            "guidance": guidance_json(self.guidance),
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
    guidances: Sequence[str] | None = None,
    settings: Sequence[str] | None = None,
    default: str = PAPER_ITERATIONS,
) -> Plan:
    """Choose the settings; where none is asked for, the paper's and a few temperatures.

    Args:
        levels: Q, of the model.
        first_level: passes of the first level, each with greedy further levels.
        iterations: lists of passes as `decode --iterations` takes them, at temperature 1.
        temperatures: of sampling, each with the default's passes.
        guidances: as `decode --guidance` takes them, likewise, each at temperature 1.
        settings: lists of passes, each with what else is particular about it: see
            `parse_setting`.
        default: passes of the setting that all others are held against, at temperature 1 and
            without guidance.

    Raises:
        DataMismatch: if a setting is malformed, or the default is the only one.
    """
    if not (first_level or iterations or temperatures or guidances or settings):
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
    wanted += [
        _setting(GUIDANCE, reference, guidance=parse_guidance(text, levels))
        for text in guidances or ()
    ]
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
    """Read passes with a temperature or a guidance of their own.

    Args:
        text: a list of passes as `decode --iterations` takes it, and after blanks perhaps the
            temperature and the guidance (else 1): `8,1 temperature=0.5 guidance=2,1`.
        levels: Q, of the model.
        option: what the user wrote it after, for messages.

    Raises:
        DataMismatch: if it is anything else.
    """
    passes, *rest = text.split() or [""]
    iterations = parse_iterations(passes, levels, option=option)
    words = {name: value for name, _, value in (word.partition("=") for word in rest)}
    try:
        if len(words) < len(rest) or not words.keys() <= {"temperature", "guidance"}:
            raise ValueError
        temperature = float(words.get("temperature", "1"))
    except ValueError:
        raise DataMismatch(
            f"{option} {text} does not go on with a temperature or a guidance, as in "
            f"{PAPER_ITERATIONS} temperature=0.5 guidance=2"
        ) from None
    guidance = parse_guidance(
        words.get("guidance", "1"), levels, option=f"{option} {passes} guidance"
    )
    return _setting(PASSES, iterations, temperature, guidance)


def _setting(
    group: str, iterations: tuple[int, ...], temperature: float = 1.0, guidance: Guidance = UNGUIDED
) -> Setting:
    DecodeOptions(iterations=iterations, temperature=temperature, guidance=guidance)  # or says why
    return Setting(
        group=group,
        iterations=iterations,
        temperature=0.0 if max(iterations) == 1 else float(temperature),
        guidance=guidance,
    )
