"""The options by which commands that judge sound choose their measures and judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stages.evaluation.judges.registry import HearingOptions
    from stages.evaluation.measure import Measure

MeasuresOption = Annotated[
    str | None,
    typer.Option(
        "--measures",
        help="Of wer, dnsmos, distillmos, voice, consistency, reconstruction, with commas; by "
        "default all that can be had.",
    ),
]
JudgeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        help="Who transcribes for WER and CER: whisper:NAME or whisper:FOLDER (faster-whisper), "
        "torchaudio:NAME[=PATH] (a CTC or RNN-T pipeline). May be repeated.",
    ),
]
WhisperOption = Annotated[
    str | None, typer.Option("--whisper", help="The same as --judge whisper:...")
]
LanguageOption = Annotated[str, typer.Option("--language", help="Spoken, for judges.")]
BeamOption = Annotated[
    int, typer.Option("--beam", min=1, help="Beam width of Whisper and of an RNN-T.")
]
ComputeTypeOption = Annotated[
    str, typer.Option("--compute-type", help="Whisper's arithmetic: int8, float16, float32.")
]
ReferenceOption = Annotated[
    str,
    typer.Option(
        "--reference",
        help="What words are held against: text, or transcript (of the recording, by the same "
        "judge); auto takes transcripts only where no row has a text.",
    ),
]
SpeakerEncoderOption = Annotated[
    str | None,
    typer.Option(
        "--speaker-encoder",
        help="For voice: resemblyzer (the default), wavlm:NAME or wavlm:FOLDER.",
    ),
]
ConsistencyOption = Annotated[
    str | None,
    typer.Option(
        "--consistency",
        help="For acoustic consistency: a model of train --model consistency, or mini.",
    ),
]
JudgeWorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", min=0,
        help="Processes that judge, each with its own models; 0 for this one. By default a core "
        "each, up to 8, where there is enough to judge and no GPU. No score depends on it.",
    ),
]  # fmt: skip


def choose_judges(
    measures: str | None,
    judge: list[str] | None,
    whisper: str | None,
    *,
    device: str,
    language: str,
    beam: int,
    compute_type: str,
    reference: str,
    consistency: str | None,
    speaker_encoder: str | None,
) -> tuple[list[Measure], HearingOptions, dict[str, str]]:
    """The measures that the options ask for, how words are heard, and what is left out and why.

    Raises:
        DataMismatch: if a measure, a judge or a model does not exist.
    """
    from stages.evaluation.judges.registry import HearingOptions
    from stages.evaluation.registry import choose_measures

    hearing = HearingOptions(
        judges=(*(judge or ()), *([f"whisper:{whisper}"] if whisper else ())),
        language=language,
        beam=beam,
        compute_type=compute_type,
        reference=reference,
    )
    chosen, skipped = choose_measures(
        [name.strip() for name in measures.split(",")] if measures else None,
        hearing if hearing.judges else None,
        consistency=consistency,
        speaker_encoder=speaker_encoder,
        device=device,
    )
    return chosen, hearing, skipped
