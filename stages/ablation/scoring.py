"""The settings' sound, judged side by side as `eval` judges systems."""

from __future__ import annotations

from pathlib import Path

from stages.ablation.sample import Sample
from stages.ablation.settings import Plan
from stages.codec.vocoding import codec_for
from stages.evaluation.comparison import Task
from stages.evaluation.lengths import seconds_of
from stages.evaluation.measure import Utterance
from stages.evaluation.systems import (
    PortableCodec,
    SoundOfTokens,
    System,
    rows_by_id,
    systems_of_input,
)
from stages.shards.reader import open_rows


def task_of(
    chosen: Plan,
    sample: Sample,
    folder: Path,
    *,
    codec: str | None,
    vocoder: str | None,
    device: str,
) -> Task:
    """What there is to judge: the recordings and their codec, where there are any, and `folder/*`.

    Args:
        chosen: the settings, decoded.
        sample: what they decoded.
        folder: where `decode_settings` left them.
        codec: of the tokens; by default the one they name.
        vocoder: for a codec of mel frames.
        device: where the codec runs.

    Raises:
        DataMismatch: if the codec cannot be had, or does not fit the tokens.
    """
    rows = rows_by_id(sample)
    recordings, systems = systems_of_input(
        sample, rows, codec=codec, vocoder=vocoder, device=device
    )
    decoded: list[System] = []
    speaker: PortableCodec | None = None
    for setting in chosen.settings:
        with open_rows(folder / setting.name) as source:
            if speaker is None:  # the same tokens in all
                model = codec_for(source, codec, vocoder=vocoder, device=device)
                speaker = PortableCodec(model, vocoder=vocoder, device=device)
            decoded.append(SoundOfTokens(setting.name, rows_by_id(source), source, speaker))
    utterances = {
        row_id: Utterance(
            id=row_id, text=row.get("text"), speaker=row.get("speaker"), seconds=seconds_of(row)
        )
        for row_id, row in rows.items()
    }
    return Task(utterances=utterances, systems=[*systems, *decoded], recordings=recordings)
