"""What `soundstorm eval` wrote, read back: systems, their scores, and how they came about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from stages.errors import DataMismatch
from stages.evaluation.lengths import BINS
from stages.evaluation.measure import Scores
from stages.evaluation.report import SCORES_JSON, SCORES_PARQUET
from stages.evaluation.systems import CODEC, RECORDINGS
from stages.report.columns import VOICE
from stages.shards.reader import open_parquet

Kind = Literal["recordings", "codec", "generated"]
Method = Literal["soundstorm", "audiolm"]

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One system of one evaluation."""

    name: str

    label: str
    """Its name, with the evaluation's where another evaluation has one of that name."""

    source: Mapping[str, Any]
    """Paths, codec, vocoder and stages, as far as they are known."""

    estimates: Mapping[str, Mapping[str, Any]]
    """By metric, over all utterances."""

    by_length: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """The same by name of a length (`short`, ...), where the evaluation has them."""

    @property
    def stages(self) -> Sequence[Mapping[str, Any]]:
        """Records of the stages that made its tokens; none where it is sound files."""
        stages: Sequence[Mapping[str, Any]] = self.source.get("stages", ())
        return stages

    @property
    def decoded_by(self) -> Mapping[str, Any] | None:
        """The record of the stage `decode`, where that made its tokens."""
        acoustic = [one for one in self.stages if (one["tokens"] or {}).get("kind") == "acoustic"]
        return acoustic[-1] if acoustic and acoustic[-1]["stage"] == "decode" else None

    @property
    def kind(self) -> Kind:
        """Whether it is the recordings, what a codec makes of them, or generated."""
        if self.name == RECORDINGS:
            return "recordings"
        coded = bool(self.stages) and self.decoded_by is None
        return "codec" if self.name == CODEC or coded else "generated"

    @property
    def method(self) -> Method | None:
        """Which model generated it: as its tokens say, or as its name does where nothing else."""
        if self.kind != "generated":
            return None
        record = self.decoded_by
        if record is not None:
            return "audiolm" if record["settings"].get("method") == "audiolm" else "soundstorm"
        methods: tuple[Method, ...] = ("soundstorm", "audiolm")
        return next((one for one in methods if one in self.name.lower()), None)

    @property
    def iterations(self) -> list[int] | None:
        """Passes of each level, where its tokens say."""
        record = self.decoded_by
        return record["settings"].get("iterations") if record else None

    @property
    def greedy(self) -> bool:
        """Whether each level had one pass of its own: as its tokens say, or as its name does."""
        if self.iterations is None:
            return "greedy" in self.name.lower()
        return set(self.iterations) == {1}

    @property
    def what(self) -> str:
        """A few words on what it is; empty where its name says all that is known."""
        if self.kind == "recordings":
            return "original"
        if self.kind == "codec":
            return "codec reconstruction"
        name = {"soundstorm": "SoundStorm", "audiolm": "AudioLM", None: ""}[self.method]
        if name and self.greedy:
            return f"{name}, greedy"
        return "" if name.lower() == self.name.lower() else name

    @property
    def prompted(self) -> bool:
        """Whether it was given the beginning of the utterances."""
        if "prompted" in self.source:
            return bool(self.source["prompted"])
        return VOICE in self.estimates


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One folder of scores."""

    folder: Path

    name: str
    """As much of the end of its path as tells it from the report's other evaluations."""

    value: Mapping[str, Any]
    """`scores.json`."""

    systems: Sequence[Judged]

    @cached_property
    def rows(self) -> dict[str, dict[str, Scores]]:
        """Utterances' scores by system and id, without what was not found out.

        Raises:
            DataMismatch: if `scores.parquet` is missing or damaged.
        """
        found: dict[str, dict[str, Scores]] = {one.name: {} for one in self.systems}
        for row in open_parquet(self.folder / SCORES_PARQUET).read().to_pylist():
            known = {key: value for key, value in row.items() if value is not None}
            found.setdefault(row["system"], {})[row["id"]] = known
        return found

    @property
    def ids(self) -> list[str]:
        """The utterances, sorted."""
        return sorted(set.union(*(set(rows) for rows in self.rows.values())))

    @property
    def generated(self) -> Sequence[str]:
        """Names of the systems that were given beside the input."""
        return list(self.value.get("settings", {}).get("systems", ()))

    @property
    def lengths(self) -> dict[str, int]:
        """How many utterances there are of each length that has any, shortest first."""
        found = self.value.get("lengths") or {}
        return {
            name: found[name]["utterances"]
            for name in BINS
            if found.get(name, {}).get("utterances")
        }


def read_evaluations(folders: Sequence[str]) -> list[Evaluation]:
    """Read the folders that `soundstorm eval -o` wrote.

    Raises:
        DataMismatch: if one is none, has no systems, or is given twice.
    """
    paths = [Path(folder) for folder in folders]
    values = [_scores(path) for path in paths]
    names = [name for value in values for name in value["systems"]]
    evaluations = []
    for path, own, value in zip(paths, _names(paths), values, strict=True):
        systems = []
        for name, estimates in value["systems"].items():
            repeated = names.count(name) > 1
            systems.append(
                Judged(
                    name=name,
                    label=f"{name} ({own})" if repeated else name,
                    source=_source(value, name),
                    estimates=estimates,
                    by_length={
                        length: found["systems"].get(name, {})
                        for length, found in (value.get("lengths") or {}).items()
                    },
                )
            )
        evaluations.append(
            Evaluation(folder=path, name=own, value=value, systems=_in_order(systems))
        )
    return evaluations


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest end of each folder's path that no other's path has."""
    parts = [folder.resolve().parts for folder in folders]
    names = []
    for folder, own in zip(folders, parts, strict=True):
        if parts.count(own) > 1:
            raise DataMismatch(f"{folder} is given twice: give each evaluation once")
        ends = (own[-length:] for length in range(1, len(own) + 1))
        shortest = next(
            end for end in ends if [other[-len(end) :] for other in parts].count(end) == 1
        )
        names.append(str(Path(*shortest)))
    return names


def _scores(folder: Path) -> dict[str, Any]:
    path = folder / SCORES_JSON
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise DataMismatch(
            f"{folder} has no {SCORES_JSON}: give a folder that soundstorm eval -o wrote"
        ) from None
    except ValueError:
        raise DataMismatch(f"{path} is no JSON: let soundstorm eval write it again") from None
    if not value.get("systems"):
        raise DataMismatch(f"{path} has no systems: judge sound, not a model alone")
    return value


def _source(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What is written of a system's origin, or what the settings of an older file say of it."""
    written = value.get("sources", {}).get("systems", {}).get(name)
    if written is not None:
        found: Mapping[str, Any] = written
        return found
    settings = value.get("settings", {})
    given = settings.get("systems", {}).get(name)
    paths = settings.get("inputs", []) if given is None else [given]
    return {
        "paths": [{"path": path} for path in paths],
        "codec": settings.get("codec"),
        "vocoder": settings.get("vocoder"),
    }


def _in_order(systems: Sequence[Judged]) -> list[Judged]:
    """Recordings, codecs, then what was generated without and with a prompt, AudioLM first."""
    kinds, methods = ("recordings", "codec", "generated"), (None, "audiolm", "soundstorm")
    return sorted(
        systems,
        key=lambda one: (kinds.index(one.kind), one.prompted, methods.index(one.method)),
    )
