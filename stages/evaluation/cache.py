"""Scores that an earlier run found, so that a rerun computes only what is new."""

from __future__ import annotations

import json
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from stages.evaluation.measure import Scores
from stages.shards.provenance import hash_json
from stages.shards.writer import cannot_write
from stages.version import __version__

CACHE_NAME = "scores-cache.jsonl"


class ScoreCache:
    """One line a score, written as soon as it is known: a killed run loses at most one.

    The key is a hash of all that decides a score, so nothing in the file can be stale.
    """

    def __init__(self, folder: Path | None) -> None:
        """Read the cache of a folder; with None nothing is kept beyond this run."""
        self._path = folder / CACHE_NAME if folder else None
        self._file: FileIO | None = None
        self._scores: dict[str, Scores] = {}
        if self._path is None or not self._path.exists():
            return
        for line in self._path.read_bytes().splitlines():
            try:
                entry = json.loads(line)
                self._scores[entry["key"]] = entry["scores"]
            except (ValueError, KeyError, TypeError):
                continue  # a kill left it unfinished

    def get(self, key: str) -> Scores | None:
        """The scores under a key, if they are known."""
        return self._scores.get(key)

    def put(self, key: str, scores: Scores) -> None:
        """Keep scores.

        Raises:
            StageFailure: if the folder cannot be written to.
        """
        self._scores[key] = scores
        if self._path is None:
            return
        line = json.dumps({"key": key, "scores": scores}, ensure_ascii=False) + "\n"
        try:
            if self._file is None:
                self._file = _open_to_append(self._path)
            self._file.write(line.encode())
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> ScoreCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _open_to_append(path: Path) -> FileIO:
    """Open a file of lines for unbuffered appending, on a line of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = path.exists() and not path.read_bytes().endswith(b"\n")
    file = path.open("ab", buffering=0)
    if cut:
        file.write(b"\n")
    return file


def score_key(*parts: Any) -> str:
    """The key of a score: SHA-256 of JSON values, and of the version that finds it."""
    return hash_json([__version__, *parts])
