"""From what a user writes after `--codec` to a codec."""

from __future__ import annotations

from pathlib import Path

from stages.assets import model_folder
from stages.codec.base import Codec, UnusableVocoder
from stages.errors import DataMismatch
from stages.nn.model_file import CONFIG_NAME

KNOWN = (
    "mini, encodec_24khz, encodec_48khz, lyra:FOLDER, or a folder that `train --model codec` wrote"
)


def load_codec(
    spec: str,
    *,
    levels: int | None = None,
    bitrate: float | None = None,
    device: str = "cpu",
    vocoder: str | None = None,
) -> Codec:
    """Load a codec.

    Args:
        spec: `mini` (ships with the package), `encodec_24khz` or `encodec_48khz` (weights through
            the encodec package), `encodec_24khz:FILE` (a local checkpoint), `lyra:FOLDER`, or a
            folder of our own codec.
        levels: Q; the codec's default if neither this nor `bitrate` is given.
        bitrate: kbit/s instead of levels.
        device: where torch codecs run.
        vocoder: for our own codec, `griffin-lim`, `plain-griffin-lim` (without the postfilter), or
            a folder of a vocoder or source-filter, or `mini`.

    Raises:
        DataMismatch: if there is no such codec, or it does not have so many levels.
    """
    family, _, path = spec.partition(":")
    if vocoder is not None and (family == "lyra" or family.startswith("encodec_")):
        raise UnusableVocoder(f"{spec} makes its own sound: --vocoder is for mel codecs only")
    if family == "lyra":
        from stages.codec.lyra import LyraCodec

        if not path:
            raise DataMismatch("say where Lyra's files are: --codec lyra:FOLDER")
        return LyraCodec(Path(path), levels=levels, bitrate=bitrate)
    if family.startswith("encodec_"):
        from stages.codec.encodec import EncodecCodec

        checkpoint = Path(path) if path else None
        return EncodecCodec(
            family, checkpoint=checkpoint, levels=levels, bitrate=bitrate, device=device
        )
    folder = model_folder(spec, "codec")
    if (folder / CONFIG_NAME).is_file():
        from stages.codec.mel.codec import MelRVQCodec

        return MelRVQCodec(
            folder, name=spec, vocoder=vocoder, levels=levels, bitrate=bitrate, device=device
        )
    raise DataMismatch(f"{spec} is no codec: use {KNOWN}")
