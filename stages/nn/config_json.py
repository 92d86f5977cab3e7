"""Configurations of networks, to and from JSON: checked field by field when read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any, Self

from stages.errors import DataMismatch

_KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "bool": ("true or false", (bool,)),
    "int": ("a whole number", (int,)),
    "float": ("a number", (int, float)),
}


class JsonConfig:
    """What a frozen dataclass of numbers and flags derives from to be saved with its network."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, where: str) -> Self:
        """Read what `to_json` wrote, or what a user set.

        Args:
            value: by field; those with a default may be missing.
            where: the source, for messages.

        Raises:
            DataMismatch: naming a field that is unknown, missing or of the wrong type.
        """
        known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
        for name, item in known.items():
            if item.default is MISSING and name not in value:
                raise DataMismatch(f"{where} does not set {name}")
        for name, given in value.items():
            if name not in known:
                raise DataMismatch(f"{where} sets {name}, which is none of {', '.join(known)}")
            words, allowed = _KINDS[str(known[name].type)]
            if not isinstance(given, allowed) or (isinstance(given, bool) and bool not in allowed):
                raise DataMismatch(f"{where} sets {name} to {given!r}: it must be {words}")
        return cls(**value)
