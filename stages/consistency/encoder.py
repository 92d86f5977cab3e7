"""The layers of a BEST-RQ model that a consistency model hears with."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from stages.semantic.best_rq import load_best_rq
from stages.semantic.encoders.layers import pick_layer
from stages.semantic.speech_conformer import SpeechConformer, SpeechConformerConfig
from stages.shards.provenance import hash_json

PAPER_LAYER = 4
"""Section 4.2."""


def tap_encoder(spec: str) -> tuple[SpeechConformer, str]:
    """A BEST-RQ model up to one of its layers.

    Args:
        spec: `FOLDER` or `FOLDER:LAYER`, layers being counted from 1; by default the paper's
            fourth, or the last of a model with fewer.

    Returns:
        The network, without the layers above, and the SHA-256 hex of what it is.

    Raises:
        DataMismatch: if it is no such model, or has no such layer.
    """
    folder, layer = _parse(spec)
    whole, file = load_best_rq(Path(folder))
    count = whole.config.layers
    layer = pick_layer(layer, count=count, default=min(PAPER_LAYER, count), where=folder)
    shape = {item.name: getattr(whole.config, item.name) for item in fields(SpeechConformerConfig)}
    network = SpeechConformer(SpeechConformerConfig(**{**shape, "layers": layer}))
    weights = whole.state_dict()
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return network.eval(), hash_json([file.fingerprint, layer])


def _parse(spec: str) -> tuple[str, int | None]:
    folder, colon, layer = spec.rpartition(":")
    return (folder, int(layer)) if colon and layer.isdecimal() else (spec, None)
