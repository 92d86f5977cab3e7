"""Which model a run may start from (`train --init`): one whose network is the run's own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from stages.errors import DataMismatch

OF_TRAINING = frozenset(
    {"dropout", "unconditional", "mask_probability", "mask_seconds", "noise", "noise_width"}
)
"""Fields of configurations that say how a network is trained and not what it computes."""


class Config(Protocol):
    def to_json(self) -> dict[str, Any]: ...


def require_same_network(
    theirs: Config, ours: Config, *, folder: Path, apart: Collection[str] = ()
) -> None:
    """Refuse another model's network, naming what it has otherwise.

    Args:
        theirs: the configuration of the model in `folder`, of the kind of `ours`.
        ours: the run's.
        folder: for the message.
        apart: fields that may differ, beside those `OF_TRAINING`.

    Raises:
        DataMismatch: if the weights of the one do not make the other.
    """
    there, here = _fields(theirs.to_json()), _fields(ours.to_json())
    unlike = [
        f"{name} is {there[name]} there and {here[name]} here"
        for name in here
        if there[name] != here[name]
        and name.rpartition(".")[2] not in OF_TRAINING
        and name not in apart
    ]
    if unlike:
        raise DataMismatch(
            f"{folder} has another network than these settings make: {', '.join(unlike)}"
        )


def _fields(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """All fields by name; those of a part as `part.field`."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _fields(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
