"""What commands that judge sound share: the options that choose measures, and judging itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from soundstorm_cli.common import progress, worker_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stages.evaluation.cache import ScoreCache
    from stages.evaluation.comparison import Comparison, Selection, Task
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


def judge_task(
    name: str,
    task: Task,
    selection: Selection,
    measures: Sequence[Measure],
    cache: ScoreCache,
    *,
    workers: int | None,
    device: str,
    quiet: bool,
) -> Comparison:
    """Judge every system of a task, with a progress bar called `name`.

    Raises:
        DataMismatch: if a measure's model cannot be loaded.
        StageFailure: if a worker dies, or the cache cannot be written to.
    """
    from stages.evaluation.comparison import compare
    from stages.evaluation.judging import default_workers

    clips = len(selection.utterances) * len(task.systems)
    if workers is None:
        workers = default_workers(clips, worker_count(None), device)
    with progress(name, clips, quiet=quiet) as advance:
        return compare(task, selection, measures, cache, workers=workers, advance=advance)
