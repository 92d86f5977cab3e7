"""The tokens of a training set as flat files on disk, mapped rather than read.

Sixty thousand hours of 12-level tokens are 260 GB: windows of them are read where they lie, and
all the processes of a machine share one copy in its page cache.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.errors import DataMismatch, RowFailure
from stages.semantic.rates import align_semantic
from stages.shards.partition import Shard
from stages.shards.provenance import hash_json
from stages.shards.rows import row_problem
from stages.shards.source import RowSource
from stages.shards.spec import TokenSpec
from stages.training.windows import Window

INDEX_NAME = "index.json"
Tokens = NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class TokenStore:
    """Utterances of aligned tokens; frames of utterance i are `offsets[i]` to `offsets[i + 1]`."""

    semantic: Tokens
    """`[F]`: the semantic token of every acoustic frame."""

    acoustic: Tokens
    """`[F, Q]`."""

    offsets: NDArray[np.int64]
    """`[N + 1]`."""

    speakers: list[str | None]
    """`[N]`."""

    texts: list[str | None]
    """`[N]`: what is said, where the shards know it."""

    semantic_spec: TokenSpec
    acoustic_spec: TokenSpec

    fingerprint: str
    """SHA-256 hex of the shards it was made from."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of each utterance, `[N]`."""
        return np.diff(self.offsets)

    def require_valid(self, valid: TokenStore, *, levels: int) -> None:
        """Refuse a validation set of other tokens, or of fewer levels than a model has.

        Raises:
            DataMismatch: saying what differs.
        """
        for ours, theirs in (
            (self.semantic_spec, valid.semantic_spec),
            (self.acoustic_spec, valid.acoustic_spec),
        ):
            ours.require_same(theirs, ours="the training set", theirs="the validation set")
        if valid.acoustic_spec.levels < levels:
            raise DataMismatch(
                f"the validation set has {valid.acoustic_spec.levels} levels of acoustic tokens "
                f"and the model {levels}: tokenize both alike"
            )

    def slice(self, example: int, start: int, length: int) -> tuple[Tokens, Tokens]:
        """Semantic `[length]` and acoustic `[length, Q]` tokens of a window, views of the files."""
        first = int(self.offsets[example]) + start
        span = np.s_[first : first + length]
        return self.semantic[span], self.acoustic[span]

    def padded(self, windows: Sequence[Window], levels: int) -> tuple[Tensor, Tensor, Tensor]:
        """Windows as one batch, 0 at padding.

        Returns:
            Semantic `[B, T]`, leading levels of acoustic `[B, T, levels]`, and `[B]` lengths, all
            int64, T the longest.
        """
        lengths = torch.tensor([window.length for window in windows])
        B, T = len(windows), int(lengths.max())
        semantic, acoustic = np.zeros((B, T), np.int64), np.zeros((B, T, levels), np.int64)
        for row, window in enumerate(windows):
            codes, frames = self.slice(window.example, window.start, window.length)
            semantic[row, : window.length] = codes
            acoustic[row, : window.length] = frames[:, :levels]
        return torch.from_numpy(semantic), torch.from_numpy(acoustic), lengths


def fingerprint_of(source: RowSource) -> str:
    """SHA-256 hex of a token set's shards.

    Raises:
        DataMismatch: if the source can be read only once.
    """
    units = source.work_units(Shard(0, 1), 1)
    if units is None:
        raise DataMismatch(
            f"{source.where} is a stream, and training reads its data many times: write it to a "
            "folder of shards first"
        )
    return hash_json([unit.fingerprint() for unit in units])


def build_store(
    source: RowSource, folder: Path, *, fingerprint: str, warn: Callable[[str], None]
) -> TokenStore:
    """Spool a token set into `folder`, unless it is there already, and open it.

    Rows that cannot be used (no frames, tokens of different lengths) are left out and counted in
    a warning.

    Raises:
        DataMismatch: if the set has no semantic or no acoustic tokens, or no usable row.
    """
    semantic = source.provenance.require_tokens("semantic", where=source.where)
    acoustic = source.provenance.require_tokens("acoustic", where=source.where)
    source.require_columns("semantic", "acoustic")

    def write(target: Path) -> dict[str, Any]:
        index = _spool(source, target, semantic, acoustic, warn)
        return index | {"semantic": semantic.to_json(), "acoustic": acoustic.to_json()}

    write_once(folder, write)
    return open_store(folder, fingerprint=fingerprint)


def write_once(folder: Path, write: Callable[[Path], dict[str, Any]]) -> None:
    """Fill a folder, which appears whole or not at all, unless it is there already.

    Args:
        folder: to be.
        write: puts files in the folder it is given and returns their index.
    """
    if (folder / INDEX_NAME).exists():
        return
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    (temporary / INDEX_NAME).write_text(json.dumps(write(temporary)))
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def open_store(folder: Path, *, fingerprint: str) -> TokenStore:
    """Map what `build_store` wrote."""
    index: dict[str, Any] = json.loads((folder / INDEX_NAME).read_text())
    acoustic_spec = TokenSpec.from_json(index["acoustic"])
    offsets = np.concatenate([[0], np.cumsum(index["lengths"])]).astype(np.int64)
    shape = (int(offsets[-1]), acoustic_spec.levels)
    return TokenStore(
        semantic=np.memmap(folder / "semantic.u16", np.uint16, "r", shape=shape[:1]),
        acoustic=np.memmap(folder / "acoustic.u16", np.uint16, "r", shape=shape),
        offsets=offsets,
        speakers=index["speakers"],
        texts=index.get("texts") or [None] * len(index["lengths"]),  # older runs spooled none
        semantic_spec=TokenSpec.from_json(index["semantic"]),
        acoustic_spec=acoustic_spec,
        fingerprint=fingerprint,
    )


def _spool(
    source: RowSource,
    folder: Path,
    semantic: TokenSpec,
    acoustic: TokenSpec,
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """Write the flat files; returns the index: lengths, speakers and texts."""
    lengths: list[int] = []
    speakers: list[str | None] = []
    texts: list[str | None] = []
    problems: list[str] = []
    with ExitStack() as files:
        semantic_file = files.enter_context((folder / "semantic.u16").open("wb"))
        acoustic_file = files.enter_context((folder / "acoustic.u16").open("wb"))
        for row, aligned in _usable_rows(source, semantic, acoustic, problems):
            semantic_file.write(np.ascontiguousarray(aligned, np.uint16).data)
            acoustic_file.write(np.ascontiguousarray(row["acoustic"], np.uint16).data)
            lengths.append(len(aligned))
            speakers.append(row.get("speaker"))
            texts.append(row.get("text"))
    tell_unusable(source, problems, usable=len(lengths), warn=warn)
    return {"lengths": lengths, "speakers": speakers, "texts": texts}


def tell_unusable(
    source: RowSource, problems: Sequence[str], *, usable: int, warn: Callable[[str], None]
) -> None:
    """Warn of the rows that cannot be trained on.

    Raises:
        DataMismatch: if none can.
    """
    if problems:
        warn(f"{len(problems)} rows of {source.where} are not trained on; the first: {problems[0]}")
    if not usable:
        raise DataMismatch(f"{source.where} has no row that can be trained on")


def _usable_rows(
    source: RowSource, semantic: TokenSpec, acoustic: TokenSpec, problems: list[str]
) -> Iterator[tuple[dict[str, Any], NDArray[np.int64]]]:
    """Rows with their semantic tokens at the acoustic rate; why others cannot be used is noted."""
    columns = [name for name in ("id", "speaker", "text") if name in source.schema.names]
    for row in source.rows([*columns, "semantic", "acoustic"]):
        problem = row_problem(row, source.provenance)
        if row["semantic"] is None or row["acoustic"] is None or not len(row["acoustic"]):
            problem = problem or "it has no tokens"
        if problem is None:
            try:
                aligned = align_semantic(
                    row["semantic"],
                    semantic.frame_rate,
                    len(row["acoustic"]),
                    acoustic.frame_rate,
                )
            except RowFailure as failure:
                problem = str(failure)
        if problem is None:
            yield row, aligned
        else:
            problems.append(f"{row['id']}: {problem}")
