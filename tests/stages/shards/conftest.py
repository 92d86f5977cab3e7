"""A toy row stage and toy rows, enough to exercise the shards without audio or networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import numpy as np
import pytest

from stages.errors import RowFailure
from stages.shards.row_stage import RowResult, RowStage
from stages.shards.rows import SEMANTIC, Row, acoustic_field
from stages.shards.source import UtteranceList
from stages.shards.spec import TokenSpec


class ToySemantic(RowStage):
    """Tokens from the id's bytes; ids that contain `bad` fail; results come in reverse."""

    name = "tokenize-semantic"
    fields = (SEMANTIC,)
    required = ("id",)

    def __init__(self, *, clusters: int = 256) -> None:
        self.settings = {"clusters": clusters}
        self.models = {"toy": "0" * 64}
        self.tokens = TokenSpec(
            kind="semantic",
            name="toy",
            fingerprint=f"toy-{clusters}",
            frame_rate=Fraction(25),
            codebook_size=clusters,
        )
        self.processed: list[str] = []

    def process(self, rows: Sequence[Row]) -> Iterator[RowResult]:
        for index in reversed(range(len(rows))):
            name = str(rows[index]["id"])
            self.processed.append(name)
            if "bad" in name:
                yield index, RowFailure("it is\nbad")
                continue
            yield index, {"semantic": np.frombuffer(name.encode(), np.uint8).astype(np.uint16)}


class ToyAcoustic(RowStage):
    """Three levels of tokens, as many frames as there are semantic tokens, twice."""

    name = "tokenize-acoustic"
    fields = (acoustic_field(3),)
    required = ("semantic",)
    models: dict[str, str] = {}  # noqa: RUF012
    settings: dict[str, object] = {"codec": "toy"}  # noqa: RUF012
    tokens = TokenSpec(
        kind="acoustic",
        name="toy",
        fingerprint="toy",
        frame_rate=Fraction(50),
        codebook_size=16,
        levels=3,
    )

    def process(self, rows: Sequence[Row]) -> Iterator[RowResult]:
        for index, row in enumerate(rows):
            frames = 2 * len(row["semantic"])
            yield index, {"acoustic": np.arange(frames * 3).reshape(frames, 3) % 16}


MakeUtterances = Callable[..., UtteranceList]


@pytest.fixture
def toy_semantic() -> ToySemantic:
    return ToySemantic()


@pytest.fixture
def toy_semantic_of() -> Callable[[int], ToySemantic]:
    """A toy stage with another codebook size, and so another fingerprint."""
    return lambda clusters: ToySemantic(clusters=clusters)


@pytest.fixture
def toy_acoustic() -> ToyAcoustic:
    return ToyAcoustic()


@pytest.fixture
def utterances() -> MakeUtterances:
    def make(*ids: str) -> UtteranceList:
        rows: list[Row] = [
            {"id": name, "audio": f"{name}.wav", "speaker": None, "text": None} for name in ids
        ]
        return UtteranceList(rows, where="toy")

    return make
