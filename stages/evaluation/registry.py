"""From what a user writes after `--measures` to measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stages.errors import DataMismatch
from stages.evaluation.intelligibility import Intelligibility, Whisper
from stages.evaluation.measure import Measure
from stages.evaluation.quality import Quality
from stages.evaluation.reconstruction import Reconstruction
from stages.evaluation.voice import VoiceSimilarity

NAMES = (Intelligibility.name, Quality.name, VoiceSimilarity.name, Reconstruction.name)


@dataclass(frozen=True, kw_only=True)
class WhisperOptions:
    """How to transcribe."""

    model: str
    """A name that faster-whisper knows, or a folder."""

    language: str = "en"
    """Two letters."""

    beam: int = 1
    """Beam width; 1 is greedy."""

    compute_type: str = "int8"
    """CTranslate2's."""

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise DataMismatch(f"a beam of {self.beam} hears nothing: use 1 or more")


def choose_measures(
    names: Sequence[str] | None, whisper: WhisperOptions | None, *, device: str = "cpu"
) -> tuple[list[Measure], dict[str, str]]:
    """The measures asked for, or all that can be had here.

    Args:
        names: from `NAMES`; None for all.
        whisper: how to transcribe; None for no error rates.
        device: where models run.

    Returns:
        The measures, and why each that was not asked for by name is left out.

    Raises:
        DataMismatch: if a measure asked for by name is unknown, or lacks a package or a model.
    """
    for name in names or ():
        if name not in NAMES:
            raise DataMismatch(f"there is no measure {name}: choose from {', '.join(NAMES)}")
    measures: list[Measure] = []
    skipped: dict[str, str] = {}
    for name in NAMES if names is None else dict.fromkeys(names):
        try:
            measure = _make(name, whisper, device)
            measure.require_packages()
        except DataMismatch as error:
            asked = names is not None or (name == Intelligibility.name and whisper is not None)
            if asked:
                raise
            skipped[name] = str(error)
            continue
        measures.append(measure)
    return measures, skipped


def _make(name: str, whisper: WhisperOptions | None, device: str) -> Measure:
    if name == Intelligibility.name:
        if whisper is None:
            raise DataMismatch("name a Whisper model or its folder with --whisper")
        return Intelligibility(
            Whisper(
                whisper.model,
                language=whisper.language,
                beam=whisper.beam,
                compute_type=whisper.compute_type,
                device=device,
            )
        )
    if name == Quality.name:
        return Quality()
    if name == VoiceSimilarity.name:
        return VoiceSimilarity(device)
    return Reconstruction()
