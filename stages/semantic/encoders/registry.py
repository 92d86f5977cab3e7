"""Semantic encoders by the names that users give them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from stages.assets import MINI, model_folder
from stages.errors import DataMismatch
from stages.semantic.base import SemanticEncoder
from stages.semantic.encoders.fairseq2 import is_fairseq2, load_fairseq2
from stages.semantic.encoders.huggingface import PREFIX, HuggingFaceEncoder
from stages.semantic.encoders.logmel import LogMelEncoder
from stages.semantic.encoders.own import OwnEncoder
from stages.semantic.encoders.reduced import ReducedEncoder, Reduction
from stages.semantic.encoders.torchaudio import NAMES as TORCHAUDIO_NAMES
from stages.semantic.encoders.torchaudio import TorchaudioEncoder, is_torchaudio
from stages.semantic.encoders.whisper import PREFIX as WHISPER
from stages.semantic.encoders.whisper import WhisperEncoder

if TYPE_CHECKING:
    from stages.semantic.kmeans import EncoderChoice

KINDS = (
    "logmel",
    "wav2vec2_base or another asset of fairseq2",
    "wav2vec2[/ARCH]:FILE",
    "w2vbert[/ARCH]:FILE",
    "hf:NAME or hf:FOLDER",
    "one of " + ", ".join(TORCHAUDIO_NAMES) + " (with :FILE for local weights)",
    "whisper:NAME or whisper:FOLDER",
    "the folder of a best-rq, student or bottleneck model",
    "mini, the bottleneck that ships",
)
"""What a specification can be."""


class UnknownEncoder(DataMismatch):
    """No specification in one of the forms of `KINDS`, and no folder."""


def load_encoder(
    spec: str,
    *,
    layer: int | None = None,
    rate: Fraction | None = None,
    reduction: Reduction = "mean",
    device: str = "cpu",
) -> SemanticEncoder:
    """Load an encoder.

    Args:
        spec: which one, in one of the forms of `KINDS`.
        layer: which layer's output to take, 1-based; None for the encoder's default.
        rate: Hz to bring its frames down to, or None for its own.
        reduction: how: the mean of neighbouring frames, or every n-th.
        device: where it runs.

    Raises:
        DataMismatch: if there is no such encoder, layer or rate, or its files cannot be used.
    """
    encoder = _load(spec, layer=layer, device=device)
    if rate is None or rate == encoder.frame_rate:
        return encoder
    return ReducedEncoder(encoder, rate=rate, reduction=reduction)


def load_chosen(
    choice: EncoderChoice, *, device: str, kmeans: str | None = None
) -> SemanticEncoder:
    """Load an encoder that was chosen, perhaps long ago and elsewhere.

    Args:
        choice: which one.
        device: where it runs.
        kmeans: the k-means that names it, where the user did not.

    Raises:
        DataMismatch: as `load_encoder` does.
    """
    try:
        return load_encoder(
            choice.spec,
            layer=choice.layer,
            rate=choice.rate,
            reduction="drop" if choice.reduction == "drop" else "mean",
            device=device,
        )
    except UnknownEncoder:
        if kmeans is None:
            raise
        raise DataMismatch(
            f"the k-means {kmeans} is of the encoder {choice.spec}, which is not to be found from "
            "here: run this where that path leads to it, or name it with --encoder in "
            "tokenize-semantic"
        ) from None


def _load(spec: str, *, layer: int | None, device: str) -> SemanticEncoder:
    if spec == "logmel":
        if layer is not None:
            raise DataMismatch("the logmel encoder has no layers: leave --layer out")
        return LogMelEncoder(device=device)
    if spec.startswith(PREFIX):
        return HuggingFaceEncoder(spec, layer=layer, device=device)
    if spec.startswith(WHISPER):
        return WhisperEncoder(spec, layer=layer, device=device)
    if is_torchaudio(spec):
        return TorchaudioEncoder(spec, layer=layer, device=device)
    if is_fairseq2(spec):
        return load_fairseq2(spec, layer=layer, device=device)
    if spec == MINI:
        return OwnEncoder(model_folder(spec, "bottleneck"), layer=layer, device=device)
    if Path(spec).is_dir():
        return OwnEncoder(Path(spec), layer=layer, device=device)
    raise UnknownEncoder(f"there is no semantic encoder {spec}: give {'; '.join(KINDS)}")
