"""What a training run is asked to do: checked, typed, and overlaid from presets, TOML and flags."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from stages.errors import DataMismatch

PRECISIONS = ("float32", "bfloat16")
SAVED_PRECISIONS = ("float32", "float16", "int8")
DECAYS = ("exponential", "linear")
OPTION = "option"
"""In a field's metadata: the command's option that alone sets it, and no file of settings."""


@dataclass(frozen=True, kw_only=True)
class OptimiserSettings:
    """Adam and its learning rate; the defaults are the paper's (section 4.1)."""

    learning_rate: float = 5e-4
    """The highest rate, reached at the end of the warm-up."""

    warmup_steps: int = 20_000
    """Steps over which the rate rises linearly from 0."""

    decay: str = "exponential"
    """How the rate falls after the warm-up: `exponential` or `linear`."""

    decay_steps: int = 500_000
    """Steps after the warm-up at which the rate has fallen to `final_ratio`; then it stays."""

    final_ratio: float = 0.01
    """The last rate as a part of the highest; the paper does not state it."""

    weight_decay: float = 1e-3
    """Decoupled, for matrices only: biases, norms and single vectors do not decay."""

    beta1: float = 0.9

    beta2: float = 0.999

    clip_norm: float = 1.0
    """Gradients longer than this are scaled down to it; 0 leaves them as they are."""

    def __post_init__(self) -> None:
        _require(self.learning_rate > 0, "optimiser.learning_rate", "more than 0")
        _require(min(self.warmup_steps, self.decay_steps) >= 0, "optimiser steps", "at least 0")
        _require(self.decay in DECAYS, "optimiser.decay", " or ".join(DECAYS))
        _require(0 < self.final_ratio <= 1, "optimiser.final_ratio", "in (0, 1]")
        _require(self.weight_decay >= 0, "optimiser.weight_decay", "at least 0")
        _require(0 <= self.beta1 < 1 and 0 <= self.beta2 < 1, "optimiser betas", "in [0, 1)")
        _require(self.clip_norm >= 0, "optimiser.clip_norm", "at least 0")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which windows of which utterances the network sees."""

    min_seconds: float = 0.0
    """Shortest window drawn; a shorter utterance is taken whole."""

    max_seconds: float = 30.0
    """Longest window drawn."""

    speaker_power: float = 1.0
    """A speaker with n utterances is drawn with weight n to this power: 1 draws every utterance
    alike, 0 every speaker alike. Utterances without a speaker are drawn as often as if there were
    no balance: each weighs the mean of those with one."""

    def __post_init__(self) -> None:
        _require(0 <= self.min_seconds <= self.max_seconds, "data.min_seconds", "0 to max_seconds")
        _require(self.max_seconds > 0, "data.max_seconds", "more than 0")
        _require(0 <= self.speaker_power <= 1, "data.speaker_power", "in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """All that decides what a run computes; a run resumes only under the same settings."""

    model: str = field(metadata={OPTION: "--model"})
    """Which task: `soundstorm`, `codec`, `consistency`, ..."""

    preset: str = field(metadata={OPTION: "--preset"})
    """Where the values came from, before TOML and flags changed some."""

    seed: int = 0
    """Of the first weights, the windows, the masks and the dropout."""

    batch_size: int = 256
    """Windows of one step, over all processes and micro-batches."""

    micro_batch_seconds: float = 240.0
    """Seconds of speech, padding included, that go through the network at once; a step gathers
    gradients over as many micro-batches as its windows need."""

    ema_decay: float = 0.999
    """Of the running mean of the weights, which is what is validated and exported; 0 is off."""

    precision: str = "float32"
    """Of the forward pass: `float32` or `bfloat16` (autocast); weights stay float32."""

    saved_precision: str = "float32"
    """Of the weights in the model folder: `float32`, `float16`, which is half as large, or `int8`,
    a quarter. Checkpoints, and a codec's codebooks, are float32 always."""

    log_every: int = 50
    """Steps between lines of `metrics.jsonl`."""

    valid_every: int = 1000
    """Steps between validations."""

    valid_examples: int = 128
    """Utterances of the validation set that are used, always the same ones."""

    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)

    data: DataSettings = field(default_factory=DataSettings)

    network: dict[str, Any] = field(default_factory=dict)
    """Shape of the network, by the fields of its config class."""

    recipe: dict[str, Any] = field(default_factory=dict)
    """What only this model's training has, by the fields of its task's recipe class."""

    def __post_init__(self) -> None:
        _require(self.batch_size >= 1, "batch_size", "at least 1")
        _require(self.micro_batch_seconds > 0, "micro_batch_seconds", "more than 0")
        _require(0 <= self.ema_decay < 1, "ema_decay", "in [0, 1)")
        _require(self.precision in PRECISIONS, "precision", " or ".join(PRECISIONS))
        _require(
            self.saved_precision in SAVED_PRECISIONS,
            "saved_precision",
            " or ".join(SAVED_PRECISIONS),
        )
        _require(min(self.log_every, self.valid_every) >= 1, "log_every, valid_every", "at least 1")
        _require(self.valid_examples >= 1, "valid_examples", "at least 1")

    def with_recipe(self, **values: Any) -> TrainingSettings:
        """With these in the recipe, fingerprints above all: no run resumes on other models."""
        return dataclasses.replace(self, recipe={**self.recipe, **values})

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _require(holds: bool, name: str, allowed: str) -> None:
    if not holds:
        raise DataMismatch(f"the setting {name} must be {allowed}")


Settings = TypeVar("Settings")


def overlay(
    base: Settings, changes: Mapping[str, Any], *, where: str, prefix: str = ""
) -> Settings:
    """A copy of a settings dataclass with some fields replaced, recursively.

    Args:
        base: a frozen dataclass.
        changes: new values by field; a nested table changes only the fields it names.
        where: the source of the changes, for messages.
        prefix: the dotted name of `base` itself.

    Raises:
        DataMismatch: naming a key that does not exist, that only an option sets, or whose value
            has the wrong type.
    """
    hints = get_type_hints(type(base))
    options = {
        f.name: f.metadata[OPTION]
        for f in dataclasses.fields(base)  # type: ignore[arg-type]
        if OPTION in f.metadata
    }
    values: dict[str, Any] = {}
    for key, value in changes.items():
        name = f"{prefix}{key}"
        if key in options:
            raise DataMismatch(f"{where}: {name} is not a setting: use {options[key]} {value}")
        if key not in hints:
            known = ", ".join(f"{prefix}{hint}" for hint in sorted(hints.keys() - options))
            raise DataMismatch(f"{where}: there is no setting {name}; there are {known}")
        current = getattr(base, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                raise DataMismatch(f"{where}: {name} is a table of settings, not {value!r}")
            values[key] = overlay(current, value, where=where, prefix=f"{name}.")
        elif hints[key] == dict[str, Any]:
            if not isinstance(value, Mapping):
                raise DataMismatch(f"{where}: {name} is a table of settings, not {value!r}")
            values[key] = {**current, **value}
        else:
            values[key] = _typed(value, hints[key], name, where)
    return dataclasses.replace(base, **values)  # type: ignore[type-var]


def _typed(value: Any, kind: type, name: str, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise DataMismatch(f"{where}: {name} must be a finite number, not {value!r}")
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        words = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}
        raise DataMismatch(
            f"{where}: {name} must be {words.get(kind, kind.__name__)}, not {value!r}"
        )
    return value


def read_toml(path: str) -> dict[str, Any]:
    """Read a settings file.

    Raises:
        DataMismatch: if it cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataMismatch(f"{path} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataMismatch(f"{path} is not TOML: {error}") from None


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """`["optimiser.learning_rate=1e-3", "batch_size=8"]` as nested tables.

    Values are TOML; what is no TOML value is taken as a word.

    Raises:
        DataMismatch: if one is not of the form key=value.
    """
    tables: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise DataMismatch(f"--set {assignment}: write key=value, as optimiser.clip_norm=0.5")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        table = tables
        for part in path[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise DataMismatch(f"--set {assignment}: {part} is already a plain value")
        table[path[-1]] = value
    return tables


def flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested tables as dotted names and values."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from flatten(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def require_same_settings(ours: Mapping[str, Any], saved: Mapping[str, Any], *, run: str) -> None:
    """Refuse to go on with a run under other settings.

    Raises:
        DataMismatch: naming the model or the preset if it differs, of which other differences
            follow, else the first setting that does.
    """
    now, then = dict(flatten(ours)), dict(flatten(saved))
    if now.get("model") != then.get("model"):
        raise DataMismatch(
            f"{run} holds a run of {then.get('model')}, not of {now.get('model')}: use "
            f"--model {then.get('model')} to resume it, or another -o"
        )
    for name in sorted(now.keys() | then.keys(), key=lambda name: (name != "preset", name)):
        if now.get(name) != then.get(name):
            raise DataMismatch(
                f"{run} was started with {name} = {then.get(name)!r}, not {now.get(name)!r}: "
                "use the same settings to resume it, or another -o"
            )
