"""The stage `generate-semantic`: AudioLM's first stage continues rows, or speaks freely."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.audio.bucketing import bucket_by_length
from stages.audiolm.chunks import Chunk, Job, generate
from stages.audiolm.config import SemanticConfig
from stages.audiolm.model import StageModel
from stages.audiolm.sampling import Sampling
from stages.audiolm.sequences import TokenSequence, semantic_sequence
from stages.errors import DataMismatch, RowFailure, StageFailure
from stages.semantic.rates import align_semantic
from stages.shards.provenance import Provenance
from stages.shards.row_stage import RowResult, RowStage
from stages.shards.rows import PROMPT_FRAMES, SEMANTIC, Row
from stages.soundstorm.row_decoder import continued


@dataclass(frozen=True, kw_only=True)
class SpeakOptions:
    """How to generate semantic tokens."""

    seconds: Fraction
    """What is added to each row."""

    sampling: Sampling = field(default_factory=Sampling)

    seed: int = 0
    """With a row's id, it decides all that is random about the row."""

    free: bool = False
    """Whether rows begin from nothing; else each continues its semantic tokens."""

    prompt_seconds: Fraction | None = None
    """Continue no more than these first seconds of a row, and forget the rest of it."""

    until_end: bool = False
    """Whether a row ends where the model ends its utterance, after `seconds` at the latest. If not
    it always gets all of `seconds`: a recording mostly is a whole utterance, whose likeliest
    continuation is none."""

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise DataMismatch(f"{float(self.seconds):g} s are nothing to generate: use more")
        if self.prompt_seconds is not None and self.prompt_seconds <= 0:
            raise DataMismatch(f"a prompt of {float(self.prompt_seconds):g} s is none")
        if self.free and self.prompt_seconds is not None:
            raise DataMismatch("a row that begins from nothing has no prompt")

    def to_json(self) -> dict[str, Any]:
        prompt = None if self.prompt_seconds is None else str(self.prompt_seconds)
        return {
            "seconds": str(self.seconds),
            "sampling": self.sampling.to_json(),
            "seed": self.seed,
            "free": self.free,
            "prompt_seconds": prompt,
            "until_end": self.until_end,
        }


class Speaker(RowStage):
    """Makes `semantic` longer, or makes it.

    `acoustic` tokens of what is continued stay, so that `decode --prompt-seconds` can go on in
    their voice: the frames whose centre lies within the semantic tokens that are kept. Later ones
    are dropped, for they are not of what now follows. `prompt_frames` counts them all, which says
    that the row's acoustic tokens are given and its semantic tokens go on after them
    (`stages.soundstorm.row_decoder.continued`); such a row can be continued again. `text` becomes
    null: the row says other words.
    """

    name = "generate-semantic"

    def __init__(
        self,
        model: StageModel[SemanticConfig],
        options: SpeakOptions,
        *,
        where: str,
        batch_seconds: float = 0.0,
    ) -> None:
        """Prepare to speak.

        Args:
            model: with its network on the device to use.
            options: how.
            where: the model's folder, for messages.
            batch_seconds: semantic tokens in a padded batch, as seconds; 0 takes one row at a
                time, which is exact to the bit.

        Raises:
            DataMismatch: if the options ask for less than one token.
        """
        self.tokens = model.tokens["semantic"]
        self.settings = options.to_json()
        self.models = {"audiolm-semantic": model.fingerprint}
        self.fields = [SEMANTIC, PROMPT_FRAMES]
        self.required = () if options.free else ("semantic",)
        self._model, self._options, self._where = model, options, where
        self._rate = self.tokens.frame_rate
        self._acoustic_rate: Fraction | None = None
        self._new = int(options.seconds * self._rate)
        if self._new < 1:
            raise DataMismatch(
                f"{float(options.seconds):g} s are not one semantic token at {self._rate} Hz"
            )
        self._batch_tokens = int(batch_seconds * self._rate)

    def check(self, provenance: Provenance, where: str) -> None:
        """Refuse tokens other than those the model was trained on."""
        if self._options.free:
            return
        semantic = provenance.require_tokens("semantic", where=where)
        self._model.tokens["semantic"].require_same(semantic, ours=self._where, theirs=where)
        acoustic = provenance.tokens("acoustic")
        self._acoustic_rate = None if acoustic is None else acoustic.frame_rate

    def process(self, rows: Sequence[Row]) -> Iterator[RowResult]:
        """Continue rows in batches of like length; a row without tokens fails alone."""
        indices: list[int] = []
        kept: list[dict[str, Any]] = []
        for index, row in enumerate(rows):
            try:
                kept.append(self._kept(row))
            except RowFailure as failure:
                yield index, failure
                continue
            indices.append(index)
        jobs = [
            self._job(rows[index]["id"], values["semantic"])
            for index, values in zip(indices, kept, strict=True)
        ]
        lengths = [job.frames for job in jobs]
        for batch in bucket_by_length(lengths, max_total=self._batch_tokens):
            made = self._generate([jobs[item] for item in batch])
            for position, tokens in zip(batch, made, strict=True):
                if len(tokens) == 0:
                    silent = RowFailure("the model ended the utterance before its first token")
                    yield indices[position], silent
                    continue
                semantic = tokens[:, 0].numpy().astype(np.uint16)
                yield indices[position], kept[position] | {"semantic": semantic}

    def _generate(self, jobs: Sequence[Job]) -> list[Tensor]:
        """`[T, 1]` for each job."""
        config = self._model.config
        chunk, overlap = config.chunk_frames(self._rate)
        try:
            return generate(
                self._model.network,
                jobs,
                self._options.sampling,
                seed=self._options.seed,
                chunk=chunk,
                overlap=overlap,
                # The end is the last of the codes: leave it out, and no row can end.
                codes=None if self._options.until_end else config.end,
                stop=config.end if self._options.until_end else None,
            )
        except torch.cuda.OutOfMemoryError:
            raise StageFailure(
                f"the GPU's memory does not hold {len(jobs)} rows: make --batch-seconds smaller"
            ) from None

    def _job(self, row_id: str, semantic: np.ndarray[Any, np.dtype[Any]]) -> Job:
        given = torch.from_numpy(semantic.astype(np.int64))[:, None]  # [P, 1]
        return Job(
            row_id=row_id,
            frames=len(given) + self._new,
            given=given,
            sequence=partial(_chunk_sequence, self._model.config),
        )

    def _kept(self, row: Row) -> dict[str, Any]:
        """The columns of a row as far as they are continued."""
        if self._options.free:
            return {"semantic": np.empty(0, np.uint16), "prompt_frames": 0}
        semantic, acoustic = row.get("semantic"), row.get("acoustic")
        text = {"text": None} if "text" in row else {}
        if semantic is None or len(semantic) == 0:
            raise RowFailure("the row has no semantic tokens to continue")
        if acoustic is not None and self._acoustic_rate is not None and not continued(row):
            align_semantic(semantic, self._rate, len(acoustic), self._acoustic_rate)
        if self._options.prompt_seconds is not None:
            semantic = semantic[: max(1, int(self._options.prompt_seconds * self._rate))]
        if acoustic is None or self._acoustic_rate is None:
            return {"semantic": semantic, "prompt_frames": 0} | text
        covered = math.ceil(len(semantic) * self._acoustic_rate / self._rate - Fraction(1, 2))
        acoustic = acoustic[:covered]
        kept = {"semantic": semantic, "acoustic": acoustic, "prompt_frames": len(acoustic)}
        return kept | text


def _chunk_sequence(config: SemanticConfig, chunk: Chunk, known: Tensor) -> TokenSequence:
    """A chunk that begins with the row is taken to begin an utterance."""
    return semantic_sequence(
        config, known[:, 0], total=chunk.end - chunk.start, from_start=chunk.start == 0
    )
