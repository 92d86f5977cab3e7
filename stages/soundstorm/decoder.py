"""The stage `decode` by SoundStorm: semantic tokens, and perhaps a prompt, to acoustic tokens."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stages.nn.precision import FLOAT32
from stages.shards.provenance import hash_json
from stages.soundstorm.decoding import DecodeOptions, DecodeRequest, DecodeTrace, decode
from stages.soundstorm.guidance import UNGUIDED, guidance_json
from stages.soundstorm.model import SoundStormModel
from stages.soundstorm.prompt import Prompt
from stages.soundstorm.row_decoder import RowDecoder
from stages.soundstorm.trace import TraceFile


class Decoder(RowDecoder):
    """Decodes in parallel, level by level."""

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
            where: see `RowDecoder`, also for the next two.
            prompt: what every row starts from, if anything.
            batch_seconds: 0 takes one row at a time, on a CPU no slower than more.
            trace: where to note how each token came about.

        Raises:
            DataMismatch: if the model cannot decode so.
        """
        options.check(model.network.config)
        super().__init__(
            model,
            model.network.config,
            levels=len(options.iterations),
            where=where,
            prompt=prompt,
            batch_seconds=batch_seconds,
        )
        self.settings = {
            "iterations": list(options.iterations),
            "temperature": options.temperature,
            "seed": options.seed,
            "prompt": prompt.to_json() if prompt else None,
        }
        if options.guidance != UNGUIDED:
            self.settings["guidance"] = guidance_json(options.guidance)
        if model.precision != FLOAT32:
            self.settings["precision"] = model.precision
        if model.compiled:  # which rounds otherwise
            self.settings["compiled"] = True
        self.models = {"soundstorm": model.fingerprint}
        if trace is not None:
            trace.maker = hash_json(self.record().to_json())
        self._model = model
        self._options = options
        self.trace = trace

    def _decode(self, requests: Sequence[DecodeRequest]) -> list[Tensor]:
        results = decode(self._model.network, requests, self._options)
        if self.trace is not None:
            for request, result in zip(requests, results, strict=True):
                own = slice(self._dropped(request), None)
                passes, confidence = result.trace.passes[own], result.trace.confidence[own]
                self.trace.add(request.row_id, DecodeTrace(passes=passes, confidence=confidence))
        return [result.acoustic for result in results]
