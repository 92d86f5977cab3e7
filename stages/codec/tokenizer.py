"""The stage that adds acoustic tokens to rows with audio."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from stages.audio.read_ahead import read_ahead
from stages.codec.base import Codec
from stages.codec.single import EncodedRow, encode_waveform
from stages.codec.workers import encoding_team
from stages.errors import RowFailure
from stages.semantic.rates import align_semantic
from stages.shards.provenance import Provenance
from stages.shards.row_stage import RowStage
from stages.shards.rows import NUM_SAMPLES, SAMPLE_RATE, Row, acoustic_field

FEW_ROWS = 8
"""Up to so many rows are done before worker processes would have started."""


class AcousticTokenizer(RowStage):
    """Adds `acoustic` (`[T, Q]`, T = ceil(N / hop) of the N samples at the codec's rate).

    Every row is tokenized alone, so its tokens depend neither on its neighbours nor on the number
    of workers. Where a row has semantic tokens, their length must agree with T.
    """

    name = "tokenize-acoustic"
    required = ("audio",)

    def __init__(self, codec: Codec, *, workers: int = 1) -> None:
        self.tokens = codec.spec
        self.settings = {"levels": codec.levels}
        self.models = codec.models
        self.fields = [acoustic_field(codec.levels), NUM_SAMPLES, SAMPLE_RATE]
        self._codec = codec
        self._workers = workers
        self._team = encoding_team(codec) if codec.in_processes and workers > 1 else None
        self._semantic_rate: Fraction | None = None

    def check(self, provenance: Provenance, where: str) -> None:
        """Note the rate of the semantic tokens, if there are any."""
        del where
        semantic = provenance.tokens("semantic")
        self._semantic_rate = semantic.frame_rate if semantic else None

    def process(self, rows: Sequence[Row]) -> Iterator[tuple[int, dict[str, Any] | RowFailure]]:
        """Tokenize rows; one without audio, or whose audio cannot be read, fails alone."""
        indices, paths = [], []
        for index, row in enumerate(rows):
            if row.get("audio") is None:
                yield index, RowFailure("the row has no audio to tokenize")
            else:
                indices.append(index)
                paths.append(row["audio"])
        for position, encoded in self._encode(paths):
            index = indices[position]
            yield index, self._values(rows[index], encoded)

    def _encode(self, paths: Sequence[str]) -> Iterator[tuple[int, EncodedRow | RowFailure]]:
        if self._team is not None and len(paths) > FEW_ROWS:
            yield from self._team.map(paths, workers=self._workers)
            return
        for position, waveform in read_ahead(
            paths,
            sample_rate=self._codec.sample_rate,
            channels=self._codec.channels,
            workers=self._workers,
        ):
            if isinstance(waveform, RowFailure):
                yield position, waveform
                continue
            try:
                encoded: EncodedRow | RowFailure = encode_waveform(self._codec, waveform)
            except RowFailure as failure:
                encoded = failure
            yield position, encoded

    def _values(self, row: Row, encoded: EncodedRow | RowFailure) -> dict[str, Any] | RowFailure:
        """The new columns, if the row's semantic tokens are as long as its acoustic ones."""
        if isinstance(encoded, RowFailure):
            return encoded
        semantic = row.get("semantic")
        if semantic is not None and self._semantic_rate is not None:
            try:
                align_semantic(
                    semantic, self._semantic_rate, len(encoded.codes), self._codec.frame_rate
                )
            except RowFailure as failure:
                return failure
        return {
            "acoustic": encoded.codes,
            "num_samples": encoded.source_samples,
            "sample_rate": encoded.source_rate,
            "prompt_frames": None,  # of the tokens that these replace, if the set has the column
        }
