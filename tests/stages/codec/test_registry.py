"""What may stand after --codec."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.codec.registry import load_codec
from stages.errors import DataMismatch


def test_a_folder_of_our_own(tiny_codec: Path) -> None:
    codec = load_codec(str(tiny_codec), levels=2)
    assert (codec.levels, codec.codebook_size, codec.frame_rate, codec.hop) == (2, 32, 50, 320)
    assert load_codec(codec.name).fingerprint == codec.fingerprint


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("soundstream", "is no codec: use mini, encodec_24khz"),
        ("", "is no codec"),
        ("lyra", "say where"),
        ("lyra:nowhere", "has no soundstream_encoder.tflite"),
        ("encodec_16khz", "is no EnCodec model"),
        ("encodec_24khz:nowhere.th", "does not exist"),
    ],
)
def test_what_is_none_is_refused_in_a_sentence(spec: str, reason: str) -> None:
    with pytest.raises(DataMismatch, match=reason) as refused:
        load_codec(spec)
    assert "\n" not in str(refused.value)


def test_a_vocoder_only_where_it_has_a_use() -> None:
    with pytest.raises(DataMismatch, match="makes its own sound"):
        load_codec("lyra:somewhere", vocoder="griffin-lim")


def test_a_vocoder_folder_is_no_codec(tiny_codec: Path) -> None:
    with pytest.raises(DataMismatch, match="holds a vocoder model where a codec is needed"):
        load_codec(str(tiny_codec / "vocoder"))
