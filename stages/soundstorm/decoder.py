"""The stage `decode`: semantic tokens, and perhaps a prompt, to acoustic tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from stages.audio.bucketing import bucket_by_length
from stages.errors import DataMismatch, RowFailure, StageFailure
from stages.semantic.rates import align_semantic
from stages.shards.provenance import Provenance
from stages.shards.row_stage import RowResult, RowStage
from stages.shards.rows import PROMPT_FRAMES, SEMANTIC, Row, acoustic_field
from stages.soundstorm.decoding import Decoded, DecodeOptions, DecodeRequest, DecodeTrace, decode
from stages.soundstorm.model import SoundStormModel
from stages.soundstorm.prompt import OwnPrompt, Prompt, VoicePrompt
from stages.soundstorm.trace import TraceFile


class Decoder(RowStage):
    """Adds `acoustic` and `prompt_frames` to rows with `semantic` tokens.

    A row that has acoustic tokens gets as many frames as those; any other as many as have their
    centre within its semantic tokens. With a voice prompt that is kept, `semantic` begins with
    the prompt's, so that both columns still cover the same time.
    """

    name = "decode"

    def __init__(
        self,
        model: SoundStormModel,
        options: DecodeOptions,
        *,
        where: str,
        prompt: Prompt | None = None,
        batch_seconds: float = 0.0,
        trace: TraceFile | None = None,
    ) -> None:
        """Prepare to decode.

        Args:
            model: with its network on the device to use.
            options: how.
            where: the model's folder, for messages.
            prompt: what every row starts from, if anything.
            batch_seconds: acoustic frames in a padded batch, as seconds; 0 takes one row at a
                time, which is exact to the bit and, on a CPU, no slower.
            trace: where to note how each token came about.
        """
        levels = len(options.iterations)
        self.tokens = replace(model.acoustic, levels=levels)
        self.settings = {
            "iterations": list(options.iterations),
            "temperature": options.temperature,
            "seed": options.seed,
            "prompt": prompt.to_json() if prompt else None,
        }
        self.models = {"soundstorm": model.fingerprint}
        self.fields = [acoustic_field(levels), PROMPT_FRAMES]
        if isinstance(prompt, VoicePrompt) and prompt.keep:
            self.fields.append(SEMANTIC)
        self.required = ("semantic", "acoustic") if isinstance(prompt, OwnPrompt) else ("semantic",)
        self._model = model
        self._options = options
        self._where = where
        self._prompt = prompt
        self._batch_frames = int(batch_seconds * model.acoustic.frame_rate)
        self._trace = trace

    def check(self, provenance: Provenance, where: str) -> None:
        """Refuse tokens other than those the model was trained on."""
        semantic = provenance.require_tokens("semantic", where=where)
        self._model.semantic.require_same(semantic, ours=self._where, theirs=where)
        acoustic = provenance.tokens("acoustic")
        if isinstance(self._prompt, OwnPrompt):
            acoustic = provenance.require_tokens("acoustic", where=where)
            if acoustic.levels < self._model.network.config.levels:
                raise DataMismatch(
                    f"{where} has {acoustic.levels} levels of acoustic tokens while a prompt for "
                    f"{self._where} needs {self._model.network.config.levels}"
                )
        if acoustic is not None:
            self._model.acoustic.require_same(acoustic, ours=self._where, theirs=where)

    def process(self, rows: Sequence[Row]) -> Iterator[RowResult]:
        """Decode rows in batches of like length; a row that does not fit fails alone."""
        indices: list[int] = []
        requests: list[DecodeRequest] = []
        for index, row in enumerate(rows):
            try:
                request = self._request(row)
                request.check(self._model.network.config)
            except RowFailure as failure:
                yield index, failure
                continue
            indices.append(index)
            requests.append(request)
        lengths = [len(request.semantic) for request in requests]
        for batch in bucket_by_length(lengths, max_total=self._batch_frames):
            for position, decoded in zip(
                batch, self._decode([requests[item] for item in batch]), strict=True
            ):
                index = indices[position]
                prompt_frames = len(requests[position].prompt)
                yield index, self._values(rows[index], decoded, prompt_frames)

    def _decode(self, requests: Sequence[DecodeRequest]) -> list[Decoded]:
        try:
            return decode(self._model.network, requests, self._options)
        except torch.cuda.OutOfMemoryError:
            raise StageFailure(
                f"the GPU's memory does not hold {len(requests)} rows of up to "
                f"{max(len(request.semantic) for request in requests)} frames: make "
                "--batch-seconds smaller"
            ) from None

    def _request(self, row: Row) -> DecodeRequest:
        """What to decode for a row, before its tokens are checked."""
        aligned = self._aligned(row)
        prompt = np.empty((0, self._model.network.config.levels), dtype=np.int64)
        if isinstance(self._prompt, VoicePrompt):
            aligned = np.concatenate((self._prompt.aligned, aligned))
            prompt = self._prompt.acoustic
        elif self._prompt is not None:
            prompt = self._own_prompt(row, self._prompt)
        return DecodeRequest(
            row_id=row["id"],
            semantic=torch.from_numpy(aligned),
            prompt=torch.from_numpy(prompt),
        )

    def _aligned(self, row: Row) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The row's semantic tokens, one for each acoustic frame, `[T]`."""
        semantic, acoustic = row.get("semantic"), row.get("acoustic")
        if semantic is None or len(semantic) == 0:
            raise RowFailure("the row has no semantic tokens to decode from")
        rate, semantic_rate = self._model.acoustic.frame_rate, self._model.semantic.frame_rate
        if acoustic is not None:
            frames = len(acoustic)
        else:  # frame j has its centre, j + 1/2, before the end of the semantic tokens
            frames = math.ceil(len(semantic) * rate / semantic_rate - 1 / 2)
        return align_semantic(semantic, semantic_rate, frames, rate)

    def _own_prompt(self, row: Row, prompt: OwnPrompt) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The row's first frames, `[P, Q]`."""
        acoustic, rate = row.get("acoustic"), self._model.acoustic.frame_rate
        if acoustic is None:
            raise RowFailure("the row has no acoustic tokens to take a prompt from")
        frames = max(1, int(prompt.seconds * rate))
        if len(acoustic) <= frames:
            raise RowFailure(
                f"the row lasts {float(len(acoustic) / rate):.3f} s, no longer than the prompt of "
                f"{float(prompt.seconds):g} s: nothing is left to generate"
            )
        return np.asarray(acoustic[:frames, : self._model.network.config.levels], dtype=np.int64)

    def _values(self, row: Row, decoded: Decoded, prompt_frames: int) -> dict[str, Any]:
        """The new columns of a row, and its trace."""
        start = 0
        values: dict[str, Any] = {}
        if isinstance(self._prompt, VoicePrompt):
            if self._prompt.keep:
                both = np.concatenate((self._prompt.semantic, row["semantic"]))
                values["semantic"] = both.astype(np.uint16)
            else:
                start = prompt_frames
        if self._trace is not None:
            passes, confidence = decoded.trace.passes[start:], decoded.trace.confidence[start:]
            self._trace.add(row["id"], DecodeTrace(passes=passes, confidence=confidence))
        values["acoustic"] = decoded.acoustic[start:].numpy().astype(np.uint16)
        values["prompt_frames"] = prompt_frames - start
        return values
