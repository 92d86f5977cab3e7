"""The stage `decode` by AudioLM: its coarse and fine stages in SoundStorm's place."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stages.audiolm.acoustic import AcousticOptions, generate_acoustic
from stages.audiolm.model import AcousticModel
from stages.nn.precision import FLOAT32
from stages.soundstorm.decoding import DecodeRequest
from stages.soundstorm.prompt import Prompt
from stages.soundstorm.row_decoder import RowDecoder


class AudioLMDecoder(RowDecoder):
    """Decodes token by token; in all else it is SoundStorm's `Decoder`."""

    def __init__(
        self,
        model: AcousticModel,
        options: AcousticOptions,
        *,
        where: str,
        levels: int | None = None,
        prompt: Prompt | None = None,
        batch_seconds: float = 0.0,
        precision: str = FLOAT32,
    ) -> None:
        """Prepare to decode.

        Args:
            model: with its networks on the device to use.
            options: how.
            where: see `RowDecoder`, also for the next three.
            levels: no more than the model's; all of them if None.
            prompt: what every row starts from, if anything.
            batch_seconds: 0 takes one row at a time.
            precision: of the networks.
        """
        wanted = levels or model.levels
        super().__init__(
            model, model, levels=wanted, where=where, prompt=prompt, batch_seconds=batch_seconds
        )
        self.settings = {
            "method": "audiolm",
            **options.to_json(),
            "prompt": prompt.to_json() if prompt else None,
        }
        if precision != FLOAT32:
            self.settings["precision"] = precision
        self.models = {"audiolm-coarse": model.coarse.fingerprint}
        if model.fine is not None:
            self.models["audiolm-fine"] = model.fine.fingerprint
        self._model = model
        self._options = options
        self._levels = wanted

    def _decode(self, requests: Sequence[DecodeRequest]) -> list[Tensor]:
        made = generate_acoustic(self._model, requests, self._options)
        return [acoustic[:, : self._levels] for acoustic in made]
