"""The codec whose mel frames a vocoder is to learn on, as its recipe names it."""

from __future__ import annotations

from typing import Any

from stages.assets import model_folder
from stages.codec.mel.config import MelGeometry
from stages.codec.mel.model import load_mel_codec
from stages.codec.mel.network import MelCodec
from stages.errors import DataMismatch
from stages.training.settings import TrainingSettings


def open_codec(
    name: str, settings: TrainingSettings
) -> tuple[MelCodec | None, TrainingSettings, dict[str, Any]]:
    """Load the codec that `recipe.codec` names, if it names one.

    Args:
        name: its folder, or `mini`; empty for none.
        settings: the run's.

    Returns:
        The codec; the settings, with its fingerprint in their recipe; and what a configuration
        is made of: the settings' network, with the codec's frames where they say none.

    Raises:
        DataMismatch: if there is no such codec.
    """
    if not name:
        return None, settings, dict(settings.network)
    codec, fingerprint = load_mel_codec(model_folder(name, "codec"))
    geometry = codec.config.geometry.to_json()
    return (
        codec,
        settings.with_recipe(codec_fingerprint=fingerprint),
        {**geometry, **settings.network},
    )


def require_same_frames(codec: MelCodec, geometry: MelGeometry, *, name: str, learns: str) -> None:
    """Refuse a codec whose mel frames are not those that a network `learns` on.

    Raises:
        DataMismatch: if they are not.
    """
    if codec.config.geometry != geometry:
        raise DataMismatch(
            f"the codec {name} has other mel frames ({codec.config.geometry}) than the {learns} "
            f"({geometry}): leave the network's to the codec"
        )
