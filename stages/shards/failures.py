"""`failures.jsonl`: the rows a run could not use, beside its output."""

from __future__ import annotations

import json
from pathlib import Path

from stages.errors import DataMismatch
from stages.shards.writer import atomic_path, locked_folder

FAILURES_NAME = "failures.jsonl"


class FailureLog:
    """Collects the failures of one part and, at the end, puts them in the shared file.

    The lines of other parts stay, those of this part's earlier runs go; a run of the whole, whose
    part is `""`, also removes those of array jobs (`i/n`). A lock lets such jobs share one file.
    """

    def __init__(self, path: Path | None, *, part: str = "") -> None:
        if path is not None:
            read_failures(path)  # another tool's is refused before the work, not after it
        self._path = path
        self._part = part
        self._lines: list[dict[str, str]] = []

    def add(self, row_id: str, reason: str) -> None:
        """Note a failed row and its one-line reason."""
        line = {"id": row_id, "reason": " ".join(reason.split()), "part": self._part}
        self._lines.append(line)

    @property
    def count(self) -> int:
        return len(self._lines)

    @property
    def lines(self) -> list[dict[str, str]]:
        """What was added, as it will be written."""
        return list(self._lines)

    def save(self) -> None:
        """Merge into the file; no file is made where nothing failed."""
        path = self._path
        if path is None or not (self._lines or path.exists()):
            return
        with locked_folder(path.parent):
            kept = [line for line in read_failures(path) if not self._redone(line["part"])]
            lines = sorted(kept + self._lines, key=lambda line: (line["part"], line["id"]))
            if not lines:
                path.unlink(missing_ok=True)
                return
            with atomic_path(path) as temporary:
                temporary.write_text(
                    "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines),
                    encoding="utf-8",
                )

    def _redone(self, part: str) -> bool:
        """Whether this run did all of a part's work; of parts, only an array job's has a slash."""
        return part == self._part or (not self._part and "/" in part)


def read_failures(path: Path) -> list[dict[str, str]]:
    """The lines of a `failures.jsonl`; none where there is no file.

    Raises:
        DataMismatch: if the file is another tool's.
    """
    if not path.exists():
        return []
    try:
        # Not `splitlines`: an id may hold what Python, but not JSON, holds to end a line.
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        return [{key: line[key] for key in ("id", "reason", "part")} for line in lines]
    except (ValueError, KeyError, TypeError):
        raise DataMismatch(
            f"{path} is where failed rows are noted, and was not written by this toolkit: move it "
            "away"
        ) from None
