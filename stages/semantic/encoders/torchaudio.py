"""HuBERT and WavLM through torchaudio's pipelines, or their weights in a local file."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.errors import DataMismatch
from stages.semantic.base import Frames, SemanticEncoder
from stages.semantic.encoders.layers import encode_each, hash_weights, pick_layer
from stages.shards.provenance import hash_json

NAMES = (
    "hubert_base", "hubert_large", "hubert_xlarge", "wavlm_base", "wavlm_base_plus", "wavlm_large",
)  # fmt: skip


class TorchaudioEncoder(SemanticEncoder):
    """One layer of a torchaudio `Wav2Vec2Model`, which HuBERT and WavLM are, too.

    Rows run one by one: the base models' group norm would see a batch's padding.
    """

    def __init__(self, spec: str, *, layer: int | None = None, device: str = "cpu") -> None:
        """Load `hubert_base`, say, or `hubert_base:FILE` with a state dict of torchaudio's names.

        Args:
            spec: one of `NAMES`, or with the file of its weights (`.pt`, `.safetensors`).
            layer: 1-based; None for the middle one, as HuBERT's own second iteration took.
            device: where it runs.

        Raises:
            DataMismatch: if it cannot be loaded, or has no such layer.
        """
        name, _, path = spec.partition(":")
        model, bundle = _load(spec, name, Path(path) if path else None)
        params = bundle._params
        count = params["encoder_num_layers"]
        self._layer = pick_layer(layer, count=count, default=count // 2 or 1, where=name)
        self._normalise = bool(bundle._normalize_waveform)
        self._model = model.to(device).eval()
        self._device = torch.device(device)
        self.name = f"{name}:{self._layer}"
        self.sample_rate = int(bundle.sample_rate)
        strides = [stride for _, _, stride in params["extractor_conv_layer_config"]]
        self.frame_rate = Fraction(self.sample_rate, math.prod(strides))
        self.dim = int(params["encoder_embed_dim"])
        identity = [params, self._normalise, self._layer]
        self.fingerprint = hash_json(
            ["torchaudio", hash_weights(model.state_dict()), repr(identity)]
        )

    @torch.inference_mode()
    def encode(self, samples: Tensor, lengths: Tensor) -> Frames:
        """Encode `[B, N]` into `[B, T, D]`."""
        return encode_each(self._encode, samples, lengths, self.dim)

    def _encode(self, row: Tensor) -> Tensor:
        """One row, `[N]` to `[T, D]`."""
        row = row.to(self._device)
        if self._normalise:  # as the large models were trained
            row = F.layer_norm(row, row.shape)
        layers, _ = self._model.extract_features(row[None], num_layers=self._layer)
        frames: Tensor = layers[-1][0]
        return frames


def is_torchaudio(spec: str) -> bool:
    """Whether a name is one of `NAMES`."""
    return spec.partition(":")[0] in NAMES


def _load(spec: str, name: str, path: Path | None) -> tuple[Any, Any]:
    import torchaudio

    bundle = getattr(torchaudio.pipelines, name.upper())
    try:
        if path is None:
            model = bundle.get_model()
            # The large ones come wrapped with the normalisation that `_encode` does itself.
            return getattr(model, "model", model), bundle
        is_wavlm = bundle._model_type == "WavLM"
        build = torchaudio.models.wavlm_model if is_wavlm else torchaudio.models.wav2vec2_model
        model = build(**bundle._params)
        model.load_state_dict(_state_dict(path))
    except Exception as error:  # of downloads, of pickles, of weights that do not fit
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataMismatch(f"the encoder {spec} cannot be loaded: {reason[:300]}") from error
    return model, bundle


def _state_dict(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(str(path))
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
