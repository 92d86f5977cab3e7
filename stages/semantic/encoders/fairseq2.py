"""wav2vec 2.0 and w2v-BERT through fairseq2: an asset, an asset card, or a checkpoint file.

Three traps of fairseq2 0.8 shape this file. `Wav2Vec2Model.extract_features` masks its input as in
pretraining, so the frontend and the encoder are run one by one. A layer hook cannot stop the
encoder, so the layers above the wanted one are dropped. And a pre-norm encoder norms its last
output, so the hook's tensor is taken, which no norm has touched.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.errors import DataMismatch
from stages.native import preload_sndfile
from stages.semantic.base import Frames, SemanticEncoder
from stages.semantic.encoders.layers import hash_weights, pick_layer
from stages.shards.provenance import hash_json

DEFAULT_ARCHS = {"wav2vec2": "base", "w2vbert": "600m"}
"""Families that can be loaded, and the architecture of a checkpoint that names none."""

_FBANK_WINDOW, _FBANK_HOP = 400, 160
"""Samples at 16 kHz: Kaldi's 25 and 10 ms."""


class Fairseq2Encoder(SemanticEncoder):
    """One layer of a wav2vec 2.0 or w2v-BERT encoder."""

    def __init__(
        self, model: Any, config: Any, *, name: str, layer: int | None, device: str = "cpu"
    ) -> None:
        """Take a loaded model apart.

        Args:
            model: a fairseq2 `Wav2Vec2Model`; it loses the layers above the wanted one.
            config: its `Wav2Vec2EncoderConfig`.
            name: what the user called it.
            layer: 1-based; None for the middle one, where phonetic content is clearest.
            device: where it runs.

        Raises:
            DataMismatch: if there is no such layer.
        """
        count = len(model.encoder.layers)
        self._layer = pick_layer(layer, count=count, default=count // 2 or 1, where=name)
        self._frontend = model.encoder_frontend.to(device).eval()
        self._encoder = model.encoder.to(device).eval()
        del self._encoder.layers[self._layer :]
        self._config = config
        self._device = torch.device(device)
        self.name = f"{name}:{self._layer}"
        self.sample_rate = 16_000
        self.dim = config.model_dim
        hop = (
            _FBANK_HOP * config.fbank_stride
            if config.use_fbank
            else math.prod(stride for _, _, stride in config.feature_extractor_layer_descs)
        )
        self.frame_rate = Fraction(self.sample_rate, hop)
        # Group norm runs over time, padding and all: then only a row alone gives its own frames.
        self._alone = not config.use_fbank and not config.feature_extractor_layer_norm_convs
        weights = {**self._frontend.state_dict(), **self._encoder.state_dict()}
        self.fingerprint = hash_json(["fairseq2", hash_weights(weights), repr(config), self._layer])

    @torch.inference_mode()
    def encode(self, samples: Tensor, lengths: Tensor) -> Frames:
        """Encode `[B, N]` into `[B, T, D]`; a row too short for one frame has length 0."""
        rows = [row[:length] for row, length in zip(samples, lengths.tolist(), strict=True)]
        counts = [self._count(len(row)) for row in rows]
        values = torch.zeros(len(rows), max(counts), self.dim)
        usable = [index for index, count in enumerate(counts) if count]
        groups = [[index] for index in usable] if self._alone else [usable] * bool(usable)
        for group in groups:
            encoded = self._encode([rows[index] for index in group]).cpu()
            for index, frames in zip(group, encoded, strict=True):
                values[index, : counts[index]] = frames[: counts[index]]
        return Frames(values=values, lengths=torch.tensor(counts))

    def _count(self, samples: int) -> int:
        """Frames of so many samples."""
        if self._config.use_fbank:
            filled = max(0, (samples - _FBANK_WINDOW) // _FBANK_HOP + 1)
            return int(filled // self._config.fbank_stride)
        for _, kernel, stride in self._config.feature_extractor_layer_descs:
            samples = max(0, (samples - kernel) // stride + 1)
        return samples

    def _encode(self, rows: Sequence[Tensor]) -> Tensor:
        """Rows `[N]` of at least one frame to `[B, T, D]`."""
        from fairseq2.nn import BatchLayout

        prepared = [self._prepare(row) for row in rows]
        seqs = torch.nn.utils.rnn.pad_sequence(prepared, batch_first=True).to(self._device)
        lengths = [len(row) for row in prepared]
        layout = BatchLayout.of(seqs, None if len(set(lengths)) == 1 else lengths)
        taken: list[Tensor] = []

        def take(index: int, output: Tensor, layout: Any, layers: int) -> bool:
            if index == layers - 1:
                taken.append(output)
            return True

        handle = self._encoder.register_layer_hook(take)
        try:
            self._encoder(*self._frontend(seqs, layout))
        finally:
            handle.remove()
        return taken[0]

    def _prepare(self, row: Tensor) -> Tensor:
        """One row's input: `[N]` samples, or `[F, channels]` log-mel frames."""
        if self._config.use_fbank:
            return _fbank(row, self._config.num_fbank_channels)
        if self._config.feature_extractor_layer_norm_convs:
            # These were trained on waveforms of mean 0 and deviation 1 (fairseq's `normalize`).
            return F.layer_norm(row, row.shape)
        return row


def _fbank(row: Tensor, channels: int) -> Tensor:
    """Kaldi's log-mel frames, normalised over the utterance: `[N]` to `[F, channels]`."""
    from fairseq2.data.audio import WaveformToFbankConverter

    convert = WaveformToFbankConverter(
        num_mel_bins=channels, waveform_scale=2.0**15, channel_last=True, standardize=True
    )
    waveform = row.cpu().float().unsqueeze(1)
    fbank: Tensor = convert({"waveform": waveform, "sample_rate": 16_000})["fbank"]
    return fbank


def load_fairseq2(spec: str, *, layer: int | None, device: str = "cpu") -> Fairseq2Encoder:
    """Load an encoder.

    Args:
        spec: an asset's name (`wav2vec2_base`); `FAMILY:FILE` or `FAMILY/ARCH:FILE`, a checkpoint
            of that family and architecture (`w2vbert/300m:model.pt`); or `FAMILY:CARD.yaml`, an
            asset card of fairseq2, which can say any size.
        layer: 1-based, or None for the middle one.
        device: where it runs.

    Raises:
        DataMismatch: if it cannot be loaded, or has no such layer.
    """
    start_fairseq2()
    name, colon, path = spec.partition(":")
    try:
        if not colon:
            model, config = _from_card(name, None)
        elif Path(path).suffix in {".yaml", ".yml"}:
            model, config = _from_card(name, Path(path))
        else:
            model, config = _from_checkpoint(name, Path(path))
    except DataMismatch:
        raise
    except Exception as error:  # fairseq2 has no common base of what can go wrong in a load
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataMismatch(f"the encoder {spec} cannot be loaded: {reason}") from error
    model, config = _wav2vec2_of(model, config)
    shown = name if not colon else f"{name}:{Path(path).stem}"
    return Fairseq2Encoder(model, config.encoder_config, name=shown, layer=layer, device=device)


@cache
def start_fairseq2() -> None:
    """Set fairseq2 up, once: it takes seconds, and must not happen at import."""
    preload_sndfile()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its own parts, in its own set-up
        from fairseq2 import init_fairseq2

        init_fairseq2(no_progress=True)


def is_fairseq2(spec: str) -> bool:
    """Whether a name is one of fairseq2's, without loading fairseq2."""
    return spec.partition(":")[0].partition("/")[0].startswith(("wav2vec2", "w2vbert"))


def _hub(family: str) -> Any:
    from fairseq2.models.w2vbert import get_w2vbert_model_hub
    from fairseq2.models.wav2vec2 import get_wav2vec2_model_hub

    if family not in DEFAULT_ARCHS:
        raise DataMismatch(
            f"{family} models cannot be semantic encoders: use one of {' and '.join(DEFAULT_ARCHS)}"
        )
    return get_wav2vec2_model_hub() if family == "wav2vec2" else get_w2vbert_model_hub()


def _from_card(name: str, path: Path | None) -> tuple[Any, Any]:
    """A model that a card describes: one of fairseq2's own, or of a YAML file."""
    from fairseq2.assets import AssetCard, get_asset_store
    from ruamel.yaml import YAML

    if path is None:
        card = get_asset_store().maybe_retrieve_card(name)
        if card is None:
            raise DataMismatch(f"fairseq2 has no asset called {name}")
    else:
        metadata = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        if not isinstance(metadata, dict):
            raise DataMismatch(f"{path} is no asset card of fairseq2")
        # A relative checkpoint is relative to its card.
        metadata["__base_path__"] = path.absolute().parent
        card = AssetCard(str(metadata.pop("name", path.stem)), metadata)
    hub = _hub(card.field("model_family").as_(str))
    return hub.load_model(card, device=torch.device("cpu")), hub.get_model_config(card)


def _from_checkpoint(name: str, path: Path) -> tuple[Any, Any]:
    family, _, arch = name.partition("/")
    if not path.exists():
        raise DataMismatch(f"the checkpoint {path} does not exist")
    hub = _hub(family)
    config = hub.get_arch_config(arch or DEFAULT_ARCHS[family])
    # Restricted: only tensors are read from the file, no code.
    return hub.load_custom_model(path, config, device=torch.device("cpu"), restrict=True), config


def _wav2vec2_of(model: Any, config: Any) -> tuple[Any, Any]:
    """The wav2vec 2.0 half of a w2v-BERT, or the model itself."""
    inner = getattr(model, "w2v2_model", None)
    return (model, config) if inner is None else (inner, config.w2v2_config)
