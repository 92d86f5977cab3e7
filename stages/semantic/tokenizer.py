"""The stage `tokenize-semantic`: audio to one semantic token a frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from stages.errors import DataMismatch, RowFailure
from stages.semantic.base import SemanticEncoder
from stages.semantic.encoding import encode_paths
from stages.semantic.kmeans import KMeans
from stages.shards.row_stage import RowResult, RowStage
from stages.shards.rows import NUM_SAMPLES, SAMPLE_RATE, SEMANTIC, Row

if TYPE_CHECKING:
    from stages.semantic.unit_search.refining import Refinement
    from stages.semantic.unit_search.searcher import UnitSearch


class SemanticTokenizer(RowStage):
    """Adds `semantic`, `num_samples` and `sample_rate` to rows that name audio files."""

    name = "tokenize-semantic"
    fields = (NUM_SAMPLES, SAMPLE_RATE, SEMANTIC)
    required = ("audio",)

    def __init__(
        self,
        encoder: SemanticEncoder,
        kmeans: KMeans,
        *,
        refinement: Refinement | None = None,
        search: UnitSearch | None = None,
        where: str = "given",
        workers: int = 0,
        batch_seconds: float = 0.0,
    ) -> None:
        """Join an encoder and a k-means.

        Args:
            encoder: makes the frames.
            kmeans: makes tokens of them, the nearest centroids,
            refinement: to where this moves them,
            search: unless this looks for better ones.
            where: the k-means' folder, for messages.
            workers: processes that read audio ahead.
            batch_seconds: audio in a padded batch; 0 takes one utterance at a time.

        Raises:
            DataMismatch: if the k-means was fitted on another encoder, or what refines or searches
                hears at another rate.
        """
        kmeans.require_encoder(encoder, where=where)
        self._encoder = encoder
        listeners = {"refiner": refinement, "search": search}
        for name, listener in listeners.items():
            if listener is not None and listener.sample_rate != encoder.sample_rate:
                raise DataMismatch(
                    f"the {name} hears at {listener.sample_rate} Hz and {encoder.name} at "
                    f"{encoder.sample_rate} Hz: leave --{name} out"
                )
        self._kmeans = kmeans
        self._refinement, self._search = refinement, search
        self._workers = workers
        self._batch_seconds = batch_seconds
        self.tokens = kmeans.tokens
        self.settings = {"encoder": encoder.name, "clusters": len(kmeans.centroids)}
        self.models = {"encoder": encoder.fingerprint, "kmeans": self.tokens.fingerprint}
        self.models |= {
            name: listener.fingerprint
            for name, listener in listeners.items()
            if listener is not None
        }

    def process(self, rows: Sequence[Row]) -> Iterator[RowResult]:
        for index, encoded in encode_paths(
            self._encoder,
            [row["audio"] for row in rows],
            workers=self._workers,
            batch_seconds=self._batch_seconds,
        ):
            if isinstance(encoded, RowFailure):
                yield index, encoded
                continue
            frames = encoded.frames
            if self._refinement is not None:
                frames = self._refinement.frames(encoded.samples, frames)
            if self._search is None:
                units = self._kmeans.assign(frames)
            else:
                units = self._search.units(encoded.samples, frames)
            yield (
                index,
                {
                    "semantic": units,
                    "num_samples": encoded.source_samples,
                    "sample_rate": encoded.source_rate,
                },
            )
