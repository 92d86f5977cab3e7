"""From what a user writes after `--measures` to measures."""

from __future__ import annotations

from collections.abc import Sequence

from stages.assets import MINI, model_folder
from stages.errors import DataMismatch
from stages.evaluation.consistency import AcousticConsistency
from stages.evaluation.intelligibility import NAME as WER
from stages.evaluation.intelligibility import Intelligibility
from stages.evaluation.judges.registry import KINDS, HearingOptions, load_judges
from stages.evaluation.measure import Measure
from stages.evaluation.quality import DistilledQuality, Quality
from stages.evaluation.reconstruction import Reconstruction
from stages.evaluation.speakers.registry import DEFAULT as RESEMBLYZER
from stages.evaluation.speakers.registry import load_speaker_encoder
from stages.evaluation.voice import VoiceSimilarity

NAMES = (
    WER,
    Quality.name,
    DistilledQuality.name,
    VoiceSimilarity.name,
    AcousticConsistency.name,
    Reconstruction.name,
)


def choose_measures(
    names: Sequence[str] | None,
    hearing: HearingOptions | None,
    *,
    consistency: str | None = None,
    speaker_encoder: str | None = None,
    device: str = "cpu",
) -> tuple[list[Measure], dict[str, str]]:
    """The measures asked for, or all that can be had here.

    Args:
        names: from `NAMES`; None for all.
        hearing: who transcribes, and how; None for no error rates.
        consistency: a consistency model's folder, or `mini`; None for `mini`.
        speaker_encoder: `resemblyzer`, `wavlm:NAME` or `wavlm:FOLDER`; None for the first.
        device: where models run.

    Returns:
        The measures, and why each that was not asked for by name is left out.

    Raises:
        DataMismatch: if a measure asked for by name is unknown, or lacks a package or a model.
    """
    for name in names or ():
        if name not in NAMES:
            raise DataMismatch(f"there is no measure {name}: choose from {', '.join(NAMES)}")
    models = {
        WER: hearing,
        AcousticConsistency.name: consistency,
        VoiceSimilarity.name: speaker_encoder,
    }
    measures: list[Measure] = []
    skipped: dict[str, str] = {}
    for name in NAMES if names is None else dict.fromkeys(names):
        try:
            made = _make(name, hearing, consistency, speaker_encoder or RESEMBLYZER, device)
            for measure in made:
                measure.require_packages()
        except DataMismatch as error:
            if names is not None or models.get(name) is not None:
                raise
            skipped[name] = str(error)
            continue
        measures += made
    return measures, skipped


def _make(
    name: str,
    hearing: HearingOptions | None,
    consistency: str | None,
    speaker_encoder: str,
    device: str,
) -> Sequence[Measure]:
    if name == WER:
        if hearing is None:
            raise DataMismatch(f"name who is to transcribe with --judge: {KINDS}")
        judges = load_judges(hearing, device=device)
        several = len(judges) > 1
        return [Intelligibility(judge, names_judge=several) for judge in judges]
    if name == Quality.name:
        return [Quality()]
    if name == DistilledQuality.name:
        return [DistilledQuality(device)]
    if name == VoiceSimilarity.name:
        return [VoiceSimilarity(load_speaker_encoder(speaker_encoder, device=device))]
    if name == AcousticConsistency.name:
        return [AcousticConsistency(model_folder(consistency or MINI, "consistency"), device)]
    return [Reconstruction()]
