"""From what a user writes after `--speaker-encoder` to a speaker encoder."""

from __future__ import annotations

from stages.errors import DataMismatch
from stages.evaluation.speakers.base import SpeakerEncoder
from stages.evaluation.speakers.resemblyzer import NAME as RESEMBLYZER
from stages.evaluation.speakers.resemblyzer import Resemblyzer
from stages.evaluation.speakers.wavlm import PREFIX as WAVLM
from stages.evaluation.speakers.wavlm import WavLM

DEFAULT = RESEMBLYZER


def load_speaker_encoder(spec: str = DEFAULT, *, device: str = "cpu") -> SpeakerEncoder:
    """A speaker encoder: `resemblyzer`, `wavlm:NAME` or `wavlm:FOLDER`.

    Raises:
        DataMismatch: if there is none of that name.
    """
    if spec == RESEMBLYZER:
        return Resemblyzer(device)
    if spec.startswith(WAVLM) and spec != WAVLM:
        return WavLM(spec.removeprefix(WAVLM), device)
    raise DataMismatch(
        f"there is no speaker encoder {spec}: use {RESEMBLYZER}, {WAVLM}NAME or {WAVLM}FOLDER"
    )
