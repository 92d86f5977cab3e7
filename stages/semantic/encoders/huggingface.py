"""w2v-BERT 2.0, HuBERT, WavLM and the like in Hugging Face's format, by name or folder."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.errors import DataMismatch
from stages.semantic.base import Frames, SemanticEncoder
from stages.semantic.encoders.fairseq2 import start_fairseq2
from stages.semantic.encoders.layers import encode_each, hash_weights, pick_layer
from stages.shards.provenance import hash_json

PREFIX = "hf:"
_FBANK_HOP = 160
"""Samples at 16 kHz between the log-mel frames that w2v-BERT 2.0 stacks."""


class HuggingFaceEncoder(SemanticEncoder):
    """One layer of a Hugging Face speech model, fed by its own feature extractor, row by row."""

    def __init__(self, spec: str, *, layer: int | None = None, device: str = "cpu") -> None:
        """Load `hf:NAME` (`hf:facebook/w2v-bert-2.0`) or `hf:FOLDER`.

        Args:
            spec: name on the hub, or a folder with `config.json`, `preprocessor_config.json` and
                the weights.
            layer: 1-based; None for two thirds of the way up (w2v-BERT 2.0: 16 of 24).
            device: where it runs.

        Raises:
            DataMismatch: if it cannot be loaded, is no speech encoder, or has no such layer.
        """
        model, self._extractor = _load(spec)
        layers = getattr(getattr(model, "encoder", None), "layers", None)
        if layers is None:
            raise DataMismatch(f"{spec} is a {type(model).__name__}, which is no speech encoder")
        count = len(layers)
        default = math.ceil(2 * count / 3)
        self._layer = pick_layer(layer, count=count, default=default, where=spec)
        # Without those above, the last output can be had before the norm that follows the stack.
        del layers[self._layer :]
        self._top = layers[-1]
        self._model = model.to(device).eval()
        self._device = torch.device(device)
        self.name = f"{spec}:{self._layer}"
        self.sample_rate = int(self._extractor.sampling_rate)
        stride = getattr(self._extractor, "stride", None)
        hop = _FBANK_HOP * stride if stride else math.prod(model.config.conv_stride)
        self.frame_rate = Fraction(self.sample_rate, int(hop))
        self.dim = int(model.config.hidden_size)
        self.fingerprint = hash_json(
            ["huggingface", hash_weights(model.state_dict()), self._extractor.to_json_string(),
             self._layer]
        )  # fmt: skip

    @torch.inference_mode()
    def encode(self, samples: Tensor, lengths: Tensor) -> Frames:
        """Encode `[B, N]` into `[B, T, D]`."""
        return encode_each(self._encode, samples, lengths, self.dim)

    def _encode(self, row: Tensor) -> Tensor:
        """One row, `[N]` to `[T, D]`."""
        inputs = self._extractor(
            row.cpu().numpy(), sampling_rate=self.sample_rate, return_tensors="pt"
        )
        taken: list[Tensor] = []

        def take(module: Any, given: Any, output: Any) -> None:
            taken.append(output[0] if isinstance(output, tuple) else output)

        handle = self._top.register_forward_hook(take)
        try:
            self._model(**{name: value.to(self._device) for name, value in inputs.items()})
        finally:
            handle.remove()
        frames = taken[0][0]  # [T, D]
        mask = inputs.get("attention_mask")
        if mask is not None and mask.shape[1] == len(frames):
            frames = frames[: int(mask.sum())]  # without what pads the last stack
        return frames


def _load(spec: str) -> tuple[Any, Any]:
    """The model, in float32, and its feature extractor."""
    name = spec.removeprefix(PREFIX)
    try:
        from transformers import AutoFeatureExtractor, AutoModel
    except ImportError:
        raise DataMismatch(
            f"the encoder {spec} needs transformers: install soundstorm with its extra `hf`"
        ) from None
    try:
        if Path(name).is_dir():
            # fairseq2's loader takes hub names alone; for a folder, the call that it would make.
            model = AutoModel.from_pretrained(name, use_safetensors=True, dtype=torch.float32)
        else:
            start_fairseq2()
            from fairseq2.models.hg.api import load_hg_model_simple

            model = load_hg_model_simple(name, dtype=torch.float32)
        return model, AutoFeatureExtractor.from_pretrained(name)
    except Exception as error:  # of downloads, of files that are missing or do not fit
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataMismatch(f"the encoder {spec} cannot be loaded: {reason[:300]}") from error
