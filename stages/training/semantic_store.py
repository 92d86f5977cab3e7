"""The semantic tokens of a training set at their own rate, as one flat file, mapped rather than
read: what a language model of them needs, with or without acoustic tokens beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.shards.rows import row_problem
from stages.shards.source import RowSource
from stages.shards.spec import TokenSpec
from stages.training.token_store import INDEX_NAME, Tokens, tell_unusable, write_once

TOKENS_NAME = "semantic.u16"


@dataclass(frozen=True, kw_only=True)
class SemanticStore:
    """Utterances of semantic tokens; those of utterance i are `offsets[i]` to `offsets[i + 1]`."""

    tokens: Tokens
    """`[S]`, all utterances' one after the other."""

    offsets: NDArray[np.int64]
    """`[N + 1]`."""

    speakers: list[str | None]
    """`[N]`."""

    spec: TokenSpec

    fingerprint: str
    """SHA-256 hex of the shards it was made from."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each utterance, `[N]`."""
        return np.diff(self.offsets)

    def slice(self, example: int, start: int, length: int) -> Tokens:
        """`[length]` tokens of a window, a view of the file."""
        first = int(self.offsets[example]) + start
        return self.tokens[first : first + length]


def build_semantic_store(
    source: RowSource, folder: Path, *, fingerprint: str, warn: Callable[[str], None]
) -> SemanticStore:
    """Spool the semantic tokens of a set into `folder`, unless they are there already.

    Rows that cannot be used are left out and counted in a warning.

    Raises:
        DataMismatch: if the set has no semantic tokens, or no usable row.
    """
    spec = source.provenance.require_tokens("semantic", where=source.where)
    source.require_columns("semantic")

    def write(target: Path) -> dict[str, Any]:
        return _spool(source, target, warn) | {"semantic": spec.to_json()}

    write_once(folder, write)
    index: dict[str, Any] = json.loads((folder / INDEX_NAME).read_text())
    offsets = np.concatenate([[0], np.cumsum(index["lengths"])]).astype(np.int64)
    return SemanticStore(
        tokens=np.memmap(folder / TOKENS_NAME, np.uint16, "r", shape=(int(offsets[-1]),)),
        offsets=offsets,
        speakers=index["speakers"],
        spec=TokenSpec.from_json(index["semantic"]),
        fingerprint=fingerprint,
    )


def _spool(source: RowSource, folder: Path, warn: Callable[[str], None]) -> dict[str, Any]:
    """Write the flat file; returns lengths and speakers."""
    lengths: list[int] = []
    speakers: list[str | None] = []
    problems: list[str] = []
    columns = [name for name in ("id", "speaker") if name in source.schema.names]
    with (folder / TOKENS_NAME).open("wb") as file:
        for row in source.rows([*columns, "semantic"]):
            problem = row_problem(row, source.provenance)
            if row["semantic"] is None or not len(row["semantic"]):
                problem = problem or "it has no tokens"
            if problem is not None:
                problems.append(f"{row['id']}: {problem}")
                continue
            file.write(np.ascontiguousarray(row["semantic"], np.uint16).data)
            lengths.append(len(row["semantic"]))
            speakers.append(row.get("speaker"))
    tell_unusable(source, problems, usable=len(lengths), warn=warn)
    return {"lengths": lengths, "speakers": speakers}
