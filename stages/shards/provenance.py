"""Where a set of shards came from: one JSON document in its schema metadata."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stages.errors import DataMismatch
from stages.shards.spec import TokenKind, TokenSpec

METADATA_KEY = b"soundstorm"
FORMAT_VERSION = (1, 0)


def hash_json(value: Any) -> str:
    """SHA-256 hex of a JSON value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def hash_file(path: str | Path) -> str:
    """SHA-256 hex of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """One stage that touched a set."""

    stage: str
    """The subcommand's name."""

    version: str
    """The toolkit's version."""

    settings: dict[str, Any]
    """All that changes a result, as JSON values."""

    fingerprint: str = ""
    """SHA-256 hex of this shard's input, the settings and the models: what a rerun compares."""

    models: dict[str, str] = field(default_factory=dict)
    """SHA-256 hex of each model used, by name."""

    tokens: TokenSpec | None = None
    """The tokens that the stage added."""

    failed: int = 0
    """Rows of this shard's input that failed and are not in it."""

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "version": self.version,
            "settings": self.settings,
            "fingerprint": self.fingerprint,
            "models": self.models,
            "tokens": self.tokens.to_json() if self.tokens else None,
            "failed": self.failed,
        }

    def difference(self, other: StageRecord) -> str:
        """What the same stage used another of there, the first of it: "decode seed"."""
        if self.version != other.version:
            return f"version of {self.stage}"
        for mine, yours in ((self.settings, other.settings), (self.models, other.models)):
            for name in sorted(mine.keys() | yours.keys()):
                if mine.get(name) != yours.get(name):
                    return f"{self.stage} {name}"
        return f"{self.stage} result"

    @staticmethod
    def from_json(value: dict[str, Any]) -> StageRecord:
        tokens = value.get("tokens")
        return StageRecord(
            stage=value["stage"],
            version=value["version"],
            settings=value["settings"],
            fingerprint=value["fingerprint"],
            models=value["models"],
            tokens=TokenSpec.from_json(tokens) if tokens else None,
            failed=value.get("failed", 0),
        )


@dataclass(frozen=True)
class Provenance:
    """Every stage that made a set of shards, first stage first."""

    stages: tuple[StageRecord, ...] = ()

    def then(self, record: StageRecord) -> Provenance:
        """This provenance with one more stage at its end."""
        return Provenance((*self.stages, record))

    def tokens(self, kind: TokenKind) -> TokenSpec | None:
        """The tokens of a kind, as the last stage that wrote them described them."""
        for record in reversed(self.stages):
            if record.tokens is not None and record.tokens.kind == kind:
                return record.tokens
        return None

    def of_set(self) -> Provenance:
        """What this shard's provenance says of its whole set, without what is its own."""
        return Provenance(
            tuple(replace(record, fingerprint="", failed=0) for record in self.stages)
        )

    @property
    def failed(self) -> int:
        """Rows that the last stage had to leave out."""
        return self.stages[-1].failed if self.stages else 0

    def require_tokens(self, kind: TokenKind, *, where: str) -> TokenSpec:
        """Like `tokens`, but their absence is the user's error.

        Raises:
            DataMismatch: if no stage added tokens of this kind.
        """
        spec = self.tokens(kind)
        if spec is None:
            raise DataMismatch(f"{where} has no {kind} tokens: run tokenize-{kind} on it first")
        return spec

    def require_same_tokens(self, other: Provenance, *, ours: str, theirs: str) -> None:
        """Refuse to join sets whose tokens do not fit (`TokenSpec.require_same`, and levels)."""
        kinds: tuple[TokenKind, ...] = ("semantic", "acoustic")
        for kind in kinds:
            mine, yours = self.tokens(kind), other.tokens(kind)
            if (mine is None) != (yours is None):
                raise DataMismatch(
                    f"{ours if mine is None else theirs} has no {kind} tokens while "
                    f"{theirs if mine is None else ours} has: they are not of one set"
                )
            if mine is not None and yours is not None:
                mine.require_same(yours, ours=ours, theirs=theirs)
                if mine.levels != yours.levels:
                    raise DataMismatch(
                        f"{ours} has {mine.levels} levels of acoustic tokens and {theirs} has "
                        f"{yours.levels}: tokenize both alike"
                    )

    def require_same_making(self, other: Provenance, *, ours: str, theirs: str) -> None:
        """Refuse parts of a set that were not all made by the same stages in the same way.

        Raises:
            DataMismatch: naming what differs.
        """
        mine, yours = self.of_set().stages, other.of_set().stages
        if [record.stage for record in mine] != [record.stage for record in yours]:
            what = "by other stages"
        else:
            made = [a.difference(b) for a, b in zip(mine, yours, strict=True) if a != b]
            if not made:
                return
            what = f"with another {made[0]}"
        raise DataMismatch(
            f"{ours} was made {what} than {theirs}: run the stage to the end with one choice of "
            "options, on machines of one kind, so that all parts of the set are alike"
        )

    def to_metadata(self) -> dict[bytes, bytes]:
        """Schema metadata: one key, JSON, no timestamps (the same input gives the same bytes)."""
        document = {
            "format_version": ".".join(map(str, FORMAT_VERSION)),
            "stages": [record.to_json() for record in self.stages],
        }
        return {METADATA_KEY: json.dumps(document, sort_keys=True, ensure_ascii=False).encode()}

    @staticmethod
    def from_metadata(metadata: dict[bytes, bytes] | None, *, where: str) -> Provenance:
        """Read schema metadata.

        Raises:
            DataMismatch: if it is absent, malformed, or of another major version.
        """
        raw = (metadata or {}).get(METADATA_KEY)
        if raw is None:
            raise DataMismatch(
                f"{where} is not a token shard: its schema has no `soundstorm` metadata (a stage "
                "of this toolkit writes it)"
            )
        try:
            document = json.loads(raw)
            version = str(document["format_version"])
            major = int(version.split(".")[0])
        except (ValueError, KeyError, TypeError):
            raise DataMismatch(
                f"{where} has `soundstorm` metadata that cannot be read: make the shard again"
            ) from None
        if major != FORMAT_VERSION[0]:
            raise DataMismatch(
                f"{where} has shard format {version}; this soundstorm reads format "
                f"{FORMAT_VERSION[0]}.x: use a matching version"
            )
        try:
            return Provenance(tuple(map(StageRecord.from_json, document["stages"])))
        except (KeyError, TypeError, AttributeError):
            raise DataMismatch(
                f"{where} has `soundstorm` metadata without complete stages: make the shard again"
            ) from None
