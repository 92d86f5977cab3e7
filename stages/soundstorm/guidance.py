"""How far each level is guided (classifier-free guidance, Ho and Salimans 2022).

Words are settled at the coarse levels, and guiding the fine ones as well costs sound: so a list of
levels, as passes have one (`schedule.py`). `docs/passes.md` says what either is worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from stages.errors import DataMismatch
from stages.soundstorm.schedule import refuse_more_levels

Guidance = float | tuple[float, ...]
"""Of all levels alike, or of each, coarse first, of which the last repeats."""

UNGUIDED = 1.0

_MOST = 1_000.0
"""Far beyond what is of use; logits times much more are no numbers."""


def guidance_at(guidance: Guidance, level: int) -> float:
    """Of a 0-based level."""
    values = _values(guidance)
    return values[min(level, len(values) - 1)]


def runs_a_pass(guidance: Guidance, levels: Iterable[int]) -> int:
    """Runs of the network in each pass that these 0-based levels share: 2 if one is guided."""
    return 1 if {guidance_at(guidance, level) for level in levels} == {UNGUIDED} else 2


def check_guidance(guidance: Guidance) -> None:
    """DataMismatch if it is no guidance."""
    for value in _values(guidance):
        if math.isnan(value) or value < 0.0:
            raise DataMismatch(f"a guidance of {value} is not 0 or more")
        if value > _MOST:
            raise DataMismatch(f"a guidance of {value:g} is beyond {_MOST:g}: 1 to 3 is of use")


def parse_guidance(
    text: str, levels: int, *, option: str = "--guidance", limited: bool = False
) -> Guidance:
    """Read one number for all levels, or one a level; the last repeats for the levels after it.

    Args:
        text: such as `2`, or `2,2,1` to guide the first two levels alone.
        levels: Q.
        option: what the user wrote it after, for messages.
        limited: whether the model makes more levels than these, for messages.

    Returns:
        What decodes alike is the same: `2.0` of `2,2` as well, `(2.0, 1.0)` of `2,1,1`.

    Raises:
        DataMismatch: if it is no such list, or names more levels than there are.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise DataMismatch(
            f"{option} {text} is neither a number, such as 2, nor a list of one a level, such as "
            "2,2,1"
        ) from None
    check_guidance(tuple(values))
    refuse_more_levels(f"{option} {text}", len(values), levels, limited=limited)
    while len(values) > 1 and values[-1] == values[-2]:
        values.pop()
    return values[0] if len(values) == 1 else tuple(values)


def guidance_text(guidance: Guidance) -> str:
    """As a user writes it, as short as can be: `2` or `2,2,1`."""
    return ",".join(f"{value:g}" for value in _values(guidance))


def guidance_json(guidance: Guidance) -> float | list[float]:
    """As JSON has it."""
    return list(guidance) if isinstance(guidance, tuple) else guidance


def _values(guidance: Guidance) -> tuple[float, ...]:
    return guidance if isinstance(guidance, tuple) else (guidance,)
