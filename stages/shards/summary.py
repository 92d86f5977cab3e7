"""Counting what a set of shards holds: rows, hours, tokens and the codes in use."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.shards.rows import Row
from stages.shards.source import RowSource
from stages.shards.spec import TokenKind, TokenSpec


class _CodeCounter:
    """Which codes of each level were seen."""

    def __init__(self, spec: TokenSpec) -> None:
        self._spec = spec
        self._seen = np.zeros((spec.levels, spec.codebook_size), dtype=bool)
        self.frames = 0
        self.rows = 0
        self.invalid_rows = 0

    def add(self, tokens: np.ndarray[Any, Any]) -> None:
        """Count `[S]` semantic or `[T, Q]` acoustic tokens."""
        codes = tokens[:, None] if tokens.ndim == 1 else tokens  # [T, Q]
        if codes.size and int(codes.max()) >= self._spec.codebook_size:
            self.invalid_rows += 1
            return
        self.rows += 1
        self.frames += len(codes)
        for level in range(min(codes.shape[1], len(self._seen))):
            self._seen[level, codes[:, level]] = True

    def used(self) -> list[int]:
        return [int(count) for count in self._seen.sum(axis=1)]

    def describe(self) -> str:
        spec = self._spec
        hours = float(self.frames / spec.frame_rate / 3600)
        text = (
            f"{self.frames:,} frames of {spec.levels} x {spec.codebook_size} at "
            f"{spec.frame_rate} Hz ({hours:.2f} h) in {self.rows:,} rows, from {spec.name} "
            f"{spec.fingerprint[:12]}"
        )
        if self.invalid_rows:
            text += f"; {self.invalid_rows} rows have codes past the codebook"
        return text


def summarise(source: RowSource) -> dict[str, Any]:
    """Describe a source as JSON values, reading it once."""
    kinds: tuple[TokenKind, ...] = ("semantic", "acoustic")
    counters = {
        kind: _CodeCounter(spec) for kind in kinds if (spec := source.provenance.tokens(kind))
    }
    rows = 0
    seconds = 0.0
    speakers: set[str] = set()
    with_text = 0
    for row in source.rows():
        rows += 1
        seconds += _seconds(row)
        speakers.update({row["speaker"]} if row.get("speaker") else ())
        with_text += bool(row.get("text"))
        for kind, counter in counters.items():
            if row.get(kind) is not None:
                counter.add(row[kind])
    description: dict[str, Any] = {
        "what": "token shards",
        "path": source.where,
        "rows": rows,
        "failed_rows": source.failed_rows,
        "hours": seconds / 3600,
        "speakers": len(speakers),
        "rows_with_text": with_text,
        "columns": ", ".join(source.schema.names),
    }
    description |= {kind: counter.describe() for kind, counter in counters.items()}
    description["codes_in_use"] = {kind: counter.used() for kind, counter in counters.items()}
    description["stages"] = [record.to_json() for record in source.provenance.stages]
    return description


def _seconds(row: Row) -> float:
    if not row.get("num_samples") or not row.get("sample_rate"):
        return 0.0
    return float(row["num_samples"] / row["sample_rate"])
