"""What every method of the stage `decode` shares: conditions, prompts, lengths, refusals."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stages.audio.bucketing import bucket_by_length
from stages.errors import DataMismatch, RowFailure, StageFailure
from stages.semantic.rates import align_semantic
from stages.shards.provenance import Provenance
from stages.shards.row_stage import RowResult, RowStage
from stages.shards.rows import PROMPT_FRAMES, SEMANTIC, Row, acoustic_field
from stages.soundstorm.decoding import DecodeRequest, TokenModel, TokenSizes
from stages.soundstorm.prompt import OwnPrompt, Prompt, VoicePrompt

Codes = npt.NDArray[np.int64]


def continued(row: Row) -> bool:
    """Whether a row's acoustic tokens are given and its semantic tokens go on after them.

    `generate-semantic` says so by counting all the acoustic frames that it leaves in
    `prompt_frames`; where something was generated there are fewer of those.
    """
    acoustic = row.get("acoustic")
    return acoustic is not None and row.get("prompt_frames") == len(acoustic)


class RowDecoder(RowStage):
    """Adds `acoustic` and `prompt_frames` to rows with `semantic` tokens.

    A row that has acoustic tokens gets as many frames as those; any other, and one whose acoustic
    tokens are the beginning of what is to be continued (`continued`), gets as many as have their
    centre within its semantic tokens. So tokens of two utterances in one row are still refused:
    only a row that says so may have more semantic than acoustic tokens. With a voice prompt that
    is kept, `semantic` begins with the prompt's, so that both columns still cover the same time.
    """

    name = "decode"

    def __init__(
        self,
        model: TokenModel,
        sizes: TokenSizes,
        *,
        levels: int,
        where: str,
        prompt: Prompt | None,
        batch_seconds: float,
    ) -> None:
        """Prepare to decode.

        Args:
            model: what is decoded with.
            sizes: of its codebooks.
            levels: how many of its levels are wanted, coarse first.
            where: the model's folder, for messages.
            prompt: what every row starts from, if anything.
            batch_seconds: acoustic frames in a padded batch, as seconds; 0 takes one row at a
                time, which is exact to the bit.
        """
        self.tokens = replace(model.acoustic, levels=levels)
        self.fields = [acoustic_field(levels), PROMPT_FRAMES]
        if isinstance(prompt, VoicePrompt) and prompt.keep:
            self.fields.append(SEMANTIC)
        self.required = ("semantic", "acoustic") if isinstance(prompt, OwnPrompt) else ("semantic",)
        self._tokens_of = model
        self._sizes = sizes
        self._where = where
        self._prompt = prompt
        self._batch_frames = int(batch_seconds * model.acoustic.frame_rate)

    @abstractmethod
    def _decode(self, requests: Sequence[DecodeRequest]) -> Sequence[Tensor]:
        """Decode a batch: `[T, levels]` int64 for each request, on the CPU, prompt first."""

    def check(self, provenance: Provenance, where: str) -> None:
        """Refuse tokens other than those the model was trained on."""
        semantic = provenance.require_tokens("semantic", where=where)
        self._tokens_of.semantic.require_same(semantic, ours=self._where, theirs=where)
        acoustic = provenance.tokens("acoustic")
        if isinstance(self._prompt, OwnPrompt):
            acoustic = provenance.require_tokens("acoustic", where=where)
            if acoustic.levels < self._tokens_of.levels:
                raise DataMismatch(
                    f"{where} has {acoustic.levels} levels of acoustic tokens while a prompt for "
                    f"{self._where} needs {self._tokens_of.levels}"
                )
        if acoustic is not None:
            self._tokens_of.acoustic.require_same(acoustic, ours=self._where, theirs=where)

    def process(self, rows: Sequence[Row]) -> Iterator[RowResult]:
        """Decode rows in batches of like length; a row that does not fit fails alone."""
        indices: list[int] = []
        requests: list[DecodeRequest] = []
        for index, row in enumerate(rows):
            try:
                request = self._request(row)
                request.check(self._sizes)
            except RowFailure as failure:
                yield index, failure
                continue
            indices.append(index)
            requests.append(request)
        lengths = [len(request.semantic) for request in requests]
        for batch in bucket_by_length(lengths, max_total=self._batch_frames):
            chosen = [requests[item] for item in batch]
            for position, acoustic in zip(batch, self._decode_or_tell(chosen), strict=True):
                index = indices[position]
                yield index, self._values(rows[index], acoustic, requests[position])

    def _decode_or_tell(self, requests: Sequence[DecodeRequest]) -> Sequence[Tensor]:
        try:
            return self._decode(requests)
        except torch.cuda.OutOfMemoryError:
            raise StageFailure(
                f"the GPU's memory does not hold {len(requests)} rows of up to "
                f"{max(len(request.semantic) for request in requests)} frames: make "
                "--batch-seconds smaller"
            ) from None

    def _request(self, row: Row) -> DecodeRequest:
        """What to decode for a row, before its tokens are checked."""
        aligned = self._aligned(row)
        prompt = np.empty((0, self._tokens_of.levels), dtype=np.int64)
        if isinstance(self._prompt, VoicePrompt):
            aligned = np.concatenate((self._prompt.aligned, aligned))
            prompt = self._prompt.acoustic
        elif self._prompt is not None:
            prompt = self._own_prompt(row, self._prompt, len(aligned))
        return DecodeRequest(
            row_id=row["id"],
            semantic=torch.from_numpy(aligned),
            prompt=torch.from_numpy(prompt),
        )

    def _aligned(self, row: Row) -> Codes:
        """The row's semantic tokens, one for each acoustic frame, `[T]`."""
        semantic, acoustic = row.get("semantic"), row.get("acoustic")
        if semantic is None or len(semantic) == 0:
            raise RowFailure("the row has no semantic tokens to decode from")
        rate = self._tokens_of.acoustic.frame_rate
        semantic_rate = self._tokens_of.semantic.frame_rate
        if acoustic is not None and not continued(row):
            frames = len(acoustic)
        else:  # frame j has its centre, j + 1/2, before the end of the semantic tokens
            frames = math.ceil(len(semantic) * rate / semantic_rate - 1 / 2)
        return align_semantic(semantic, semantic_rate, frames, rate)

    def _own_prompt(self, row: Row, prompt: OwnPrompt, total: int) -> Codes:
        """The row's first frames, `[P, Q]`; of a row to be continued no more than it has."""
        acoustic, rate = row.get("acoustic"), self._tokens_of.acoustic.frame_rate
        if acoustic is None or len(acoustic) == 0:
            raise RowFailure("the row has no acoustic tokens to take a prompt from")
        frames = max(1, int(prompt.seconds * rate))
        given = np.asarray(acoustic[:frames, : self._tokens_of.levels], dtype=np.int64)
        if len(given) >= total:
            raise RowFailure(
                f"the row lasts {float(total / rate):.3f} s, no longer than the prompt of "
                f"{float(prompt.seconds):g} s: nothing is left to generate"
            )
        return given

    def _dropped(self, request: DecodeRequest) -> int:
        """Leading frames of a result that are not part of the row: a voice that is not kept."""
        voice = isinstance(self._prompt, VoicePrompt) and not self._prompt.keep
        return len(request.prompt) if voice else 0

    def _values(self, row: Row, acoustic: Tensor, request: DecodeRequest) -> dict[str, Any]:
        """The new columns of a row."""
        start = self._dropped(request)
        values: dict[str, Any] = {
            "acoustic": acoustic[start:].numpy().astype(np.uint16),
            "prompt_frames": len(request.prompt) - start,
        }
        if isinstance(self._prompt, VoicePrompt) and self._prompt.keep:
            both = np.concatenate((self._prompt.semantic, row["semantic"]))
            values["semantic"] = both.astype(np.uint16)
        return values
