"""How the settings of an ablation come to have the passes that they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BY_LEVEL = "level by level"
TOGETHER = "levels together"
OTHER_TEMPERATURE = "another temperature"
GUIDED = "guided"
KINDS = (BY_LEVEL, TOGETHER, OTHER_TEMPERATURE, GUIDED)


def kind_of(row: Mapping[str, Any], default: Mapping[str, Any]) -> str:
    """Which of `KINDS` a row of `ablation.json` is; the default is `BY_LEVEL` or `TOGETHER`."""
    if row.get("guidance", 1.0) != 1.0:  # older files do not say
        return GUIDED
    if max(row["iterations"]) > 1 and row["temperature"] != default["temperature"]:
        return OTHER_TEMPERATURE
    return TOGETHER if 0 in row["iterations"] else BY_LEVEL
