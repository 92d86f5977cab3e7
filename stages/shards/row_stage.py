"""The one interface of every stage that turns rows into rows with more columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from stages.errors import RowFailure
from stages.shards.provenance import Provenance, StageRecord, hash_json
from stages.shards.rows import Row
from stages.shards.spec import TokenSpec
from stages.version import __version__

RowResult = tuple[int, dict[str, Any] | RowFailure]
"""The index of a row in what `process` was given, and its new columns or why it failed."""


class RowStage(ABC):
    """A stage that copies the columns it got and adds its own.

    Implementations set the attributes below; everything about files, pipes, resuming and
    failures is the runner's.
    """

    name: str
    """The subcommand's name."""

    settings: dict[str, Any]
    """All that changes a result, as JSON values (not the batch size or the device)."""

    models: dict[str, str]
    """SHA-256 hex of each model used, by name."""

    tokens: TokenSpec | None = None
    """The tokens that the stage adds."""

    fields: Sequence[pa.Field] = ()
    """The columns that it adds or replaces."""

    required: Sequence[str] = ()
    """The columns that it needs."""

    def check(self, provenance: Provenance, where: str) -> None:
        """Raise DataMismatch where the input's tokens do not fit this stage."""
        del provenance, where

    @abstractmethod
    def process(self, rows: Sequence[Row]) -> Iterator[RowResult]:
        """Yield each row's index and new columns, or its failure, in any order, lazily.

        Called once for a shard, or for each batch of a stream; a row's result never depends on
        the other rows.
        """

    def record(self, *, input_fingerprint: str = "", failed: int = 0) -> StageRecord:
        """What this stage writes about itself into the shards it makes."""
        spec = self.tokens.to_json() if self.tokens else None
        identity = [self.name, __version__, self.settings, self.models, spec, input_fingerprint]
        return StageRecord(
            stage=self.name,
            version=__version__,
            settings=self.settings,
            fingerprint=hash_json(identity) if input_fingerprint else "",
            models=self.models,
            tokens=self.tokens,
            failed=failed,
        )
