"""Semantic encoders by the names that users give them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from stages.errors import DataMismatch
from stages.semantic.base import SemanticEncoder
from stages.semantic.encoders.fairseq2 import is_fairseq2, load_fairseq2
from stages.semantic.encoders.reduced import ReducedEncoder, Reduction

KINDS = {
    "logmel": "cepstra of a log-mel spectrogram, no weights",
}


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
        spec: which one, as `KINDS` lists.
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


def _load(spec: str, *, layer: int | None, device: str) -> SemanticEncoder:
    if spec == "logmel":
        from stages.semantic.encoders.logmel import LogMelEncoder

        if layer is not None:
            raise DataMismatch("the logmel encoder has no layers: leave --layer out")
        return LogMelEncoder(device=device)
    if is_fairseq2(spec):
        return load_fairseq2(spec, layer=layer, device=device)
    if Path(spec).is_dir():
        from stages.semantic.encoders.best_rq import BestRQEncoder

        return BestRQEncoder(Path(spec), layer=layer, device=device)
    raise DataMismatch(f"there is no semantic encoder {spec}: give one of {', '.join(KINDS)}")
