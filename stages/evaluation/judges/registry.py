"""From what a user writes after `--judge` to judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stages.errors import DataMismatch
from stages.evaluation.judges.base import Judge
from stages.evaluation.judges.torchaudio import PREFIX as TORCHAUDIO
from stages.evaluation.judges.torchaudio import torchaudio_judge
from stages.evaluation.judges.whisper import PREFIX as WHISPER
from stages.evaluation.judges.whisper import Whisper

KINDS = "whisper:NAME, whisper:FOLDER, torchaudio:NAME or torchaudio:NAME=PATH"

TEXT, TRANSCRIPT, AUTO = "text", "transcript", "auto"
REFERENCES = (AUTO, TEXT, TRANSCRIPT)
"""What words are held against: the text of the row, or what the same judge hears in its recording;
`auto` takes transcripts where no row at all has a text."""


@dataclass(frozen=True, kw_only=True)
class HearingOptions:
    """Who transcribes, and how."""

    judges: tuple[str, ...]
    """In the forms of `KINDS`."""

    language: str = "en"
    """Two letters."""

    beam: int = 1
    """Beam width; 1 is greedy."""

    compute_type: str = "int8"
    """CTranslate2's, for Whisper."""

    reference: str = AUTO
    """One of `REFERENCES`."""

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise DataMismatch(f"a beam of {self.beam} hears nothing: use 1 or more")
        if self.reference != AUTO and not self.judges:
            raise DataMismatch(
                f"--reference {self.reference} needs someone who transcribes: name one with "
                f"--judge {KINDS}"
            )
        if self.reference not in REFERENCES:
            raise DataMismatch(
                f"there is no reference {self.reference}: use {', '.join(REFERENCES)}"
            )


def load_judges(options: HearingOptions, *, device: str = "cpu") -> Sequence[Judge]:
    """The judges asked for, in order; one named twice comes once.

    Raises:
        DataMismatch: if there is no such judge, or two would have the same name in tables.
    """
    judges: dict[str, Judge] = {}
    for spec in dict.fromkeys(options.judges):
        judge = _load(spec, options, device)
        if judge.slug in judges:
            raise DataMismatch(
                f"two judges would be called {judge.name}: leave one out, or rename its folder"
            )
        judges[judge.slug] = judge
    return list(judges.values())


def _load(spec: str, options: HearingOptions, device: str) -> Judge:
    name = spec.removeprefix(WHISPER)
    if spec.startswith(WHISPER) and name:
        return Whisper(
            name,
            language=options.language,
            beam=options.beam,
            compute_type=options.compute_type,
            device=device,
        )
    if spec.startswith(TORCHAUDIO):
        return torchaudio_judge(
            spec.removeprefix(TORCHAUDIO),
            language=options.language,
            beam=options.beam,
            device=device,
        )
    raise DataMismatch(f"there is no judge {spec}: write {KINDS}")
