"""`soundstorm eval`: scores of recordings, codecs, generated speech and models, side by side."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from soundstorm_cli.common import (
    DeviceOption,
    JsonOption,
    KeepGoingOption,
    QuietOption,
    VocoderOption,
    finish,
    open_inputs,
    pick_device,
    progress,
    resolve_input,
    say,
    say_failures,
    show_tables,
)
from soundstorm_cli.judging import (
    BeamOption,
    ComputeTypeOption,
    ConsistencyOption,
    JudgeOption,
    JudgeWorkersOption,
    LanguageOption,
    MeasuresOption,
    ReferenceOption,
    SpeakerEncoderOption,
    WhisperOption,
    choose_judges,
    judge_task,
)
from stages.assets import model_folder
from stages.errors import DataMismatch

if TYPE_CHECKING:
    from stages.evaluation.cache import ScoreCache
    from stages.evaluation.comparison import Comparison, Selection, Task
    from stages.evaluation.masked_tokens import MaskedTokenScores
    from stages.evaluation.measure import Measure

NAME = "eval"


def evaluate(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="The utterances: token shards, -, or audio (files, folders, a manifest). Their "
            "recordings are judged, and their acoustic tokens as `codec` (as `decoded` if decode "
            "made them).",
        ),
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(
            "--system", "-s", metavar="NAME=PATH",
            help="Generated speech to hold against them, matched by id: token shards (vocoded "
            "here), or a folder or manifest of sound files. May be repeated.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o",
            help="A folder for scores.json, scores.parquet and table.md. Scores already in it are "
            "not computed again.",
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            help="The codec of all tokens; by default the one they name. With audio as INPUT, the "
            "codec to send it through.",
        ),
    ] = None,
    vocoder: VocoderOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="A SoundStorm (a folder, or mini): its masked-token loss and accuracy on INPUT's "
            "tokens. Alone, sound is not judged.",
        ),
    ] = None,
    measures: MeasuresOption = None,
    judge: JudgeOption = None,
    whisper: WhisperOption = None,
    language: LanguageOption = "en",
    beam: BeamOption = 1,
    compute_type: ComputeTypeOption = "int8",
    reference: ReferenceOption = "auto",
    speaker_encoder: SpeakerEncoderOption = None,
    consistency: ConsistencyOption = None,
    prompt_seconds: Annotated[
        float,
        typer.Option(
            "--prompt-seconds", min=0.0,
            help="The prompt at the start of sound files, where no token shard has one and says "
            "how long it is.",
        ),
    ] = 0.0,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Judge only so many utterances.")
    ] = None,
    draws: Annotated[
        int, typer.Option("--draws", min=1, help="Masks of each level and utterance, for --model.")
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Of the masks.")] = 0,
    workers: JudgeWorkersOption = None,
    device: DeviceOption = "auto",
    keep_going: KeepGoingOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Judge recordings, codecs, generated speech and models, side by side.

    WER and CER by Whisper or others, DNSMOS and DistillMOS, similarity of the voice to the prompt
    and to another speaker's, acoustic consistency with the prompt, log-mel distance and SI-SDR to
    the recording, masked-token loss and accuracy; each with a 95 % bootstrap interval over
    utterances, and by their length. For listeners' ratings there is `soundstorm eval mos`.
    """
    given = resolve_input(inputs)
    systems = _parse_systems(system)
    asked = (system, measures, judge, whisper, consistency, speaker_encoder)
    judge_sound = model is None or any(map(bool, asked))
    _refuse_misfits(given, systems, model=model, judge_sound=judge_sound)
    from stages.evaluation.cache import ScoreCache
    from stages.evaluation.intelligibility import settle_reference
    from stages.evaluation.report import document, grids_of, write_report
    from stages.evaluation.sources import sources

    device = pick_device(device)
    folder = Path(output) if output else None
    comparison: Comparison | None = None
    masked: MaskedTokenScores | None = None
    origins: dict[str, Any] | None = None
    skipped: dict[str, str] = {}
    settings: dict[str, Any] = {"inputs": given, "limit": limit}
    chosen: list[Measure] = []
    if judge_sound:
        chosen, hearing, skipped = choose_judges(
            measures, judge, whisper, device=device, language=language, beam=beam,
            compute_type=compute_type, reference=reference, consistency=consistency,
            speaker_encoder=speaker_encoder,
        )  # fmt: skip
        settings |= {
            "systems": systems, "codec": codec, "vocoder": vocoder,
            "prompt_seconds": prompt_seconds,
        }  # fmt: skip
    with ScoreCache(folder) as cache:
        opened: tuple[Task, Selection] | None = None
        if judge_sound:
            speakers = {"codec": codec, "vocoder": vocoder, "device": device}
            opened = _open_task(given, systems, speakers, limit, prompt_seconds)
        if model is not None:
            settings |= {"model": model, "draws": draws, "seed": seed}
            heard = {one.id for one in opened[1].utterances} if opened else None
            masked = _masked_tokens(
                given, model, cache, device, draws, seed, limit, heard, quiet=quiet
            )
        if opened is not None:
            task, selection = opened
            chosen = settle_reference(chosen, hearing.reference, task.utterances.values())
            settings["measures"] = {measure.name: measure.settings for measure in chosen}
            with _told_of_interruption(folder):
                comparison = judge_task(
                    NAME, task, selection, chosen, cache, workers=workers, device=device,
                    quiet=quiet,
                )  # fmt: skip
            origins = sources(
                given, systems, task.systems, [one.id for one in selection.utterances],
                codec=codec, vocoder=vocoder, prompt_seconds=prompt_seconds, folder=folder,
            )  # fmt: skip
    result = document(comparison, masked, settings=settings, skipped=skipped)
    if origins is not None:
        result["sources"] = origins
    failures = _failures(comparison, masked)
    if folder is not None:
        _log_failures(folder, failures)
        write_report(folder, result, comparison, masked)
        result["output"] = str(folder)
    _explain(result, failures, quiet=quiet)
    if not (quiet and as_json):
        show_tables(grids_of(comparison, masked), to_stderr=as_json)
    finish(result, failed=len(failures), keep_going=keep_going, as_json=as_json)


def _parse_systems(given: list[str] | None) -> dict[str, str]:
    """`NAME=PATH` by name."""
    from stages.evaluation.systems import CODEC, DECODED, RECORDINGS

    systems: dict[str, str] = {}
    for text in given or ():
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise DataMismatch(f"--system {text} is not NAME=PATH: write --system mine=decoded/")
        if name in systems or name in (RECORDINGS, CODEC, DECODED):
            raise DataMismatch(f"the name {name} is taken: give --system {text} another")
        systems[name] = path
    return systems


def _refuse_misfits(
    given: list[str], systems: dict[str, str], *, model: str | None, judge_sound: bool
) -> None:
    readers = [*given, *systems.values()].count("-")
    if readers > 1 or (readers and model is not None and judge_sound):
        raise DataMismatch("standard input can be read once: write the stream to a file first")


def _masked_tokens(
    given: list[str],
    model: str,
    cache: ScoreCache,
    device: str,
    draws: int,
    seed: int,
    limit: int | None,
    among: Collection[str] | None,
    *,
    quiet: bool,
) -> MaskedTokenScores:
    from stages.evaluation.masked_tokens import score_masked_tokens

    with open_inputs(given) as source:
        most = [rows for rows in (limit, source.num_rows) if rows is not None]
        with progress("masked tokens", min(most, default=None), quiet=quiet) as advance:
            return score_masked_tokens(
                model_folder(model, "soundstorm"),
                source,
                cache,
                device=device,
                draws=draws,
                seed=seed,
                limit=limit,
                among=among,
                advance=advance,
            )


def _open_task(
    given: list[str],
    paths: dict[str, str],
    speakers: dict[str, Any],
    limit: int | None,
    prompt_seconds: float,
) -> tuple[Task, Selection]:
    from stages.evaluation.comparison import Task, select
    from stages.evaluation.lengths import seconds_of
    from stages.evaluation.measure import Utterance
    from stages.evaluation.systems import open_system, rows_by_id, systems_of_input

    with open_inputs(given) as source:
        rows = rows_by_id(source)
        recordings, systems = systems_of_input(source, rows, **speakers)
        where = source.where
    systems += [open_system(name, path, **speakers) for name, path in paths.items()]
    if not systems:
        raise DataMismatch(f"{where} has neither audio nor acoustic tokens: nothing can be heard")
    task = Task(
        utterances={
            row_id: Utterance(id=row_id, text=row.get("text"), speaker=row.get("speaker"))
            for row_id, row in rows.items()
        },
        systems=systems,
        recordings=recordings,
        prompt_seconds=prompt_seconds,
        limit=limit,
    )
    selection = select(task)
    # Headers of files are read here, once it is known which.
    judged = [replace(one, seconds=seconds_of(rows[one.id])) for one in selection.utterances]
    return task, replace(selection, utterances=judged)


@contextmanager
def _told_of_interruption(folder: Path | None) -> Iterator[None]:
    """Say on Ctrl-C, and on SIGTERM, what becomes of the work."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        kept = f"what was scored is kept in {folder}, and the same command goes on from there"
        say(f"{NAME}: interrupted: {kept if folder else 'without -o, no score is kept'}")
        raise


def _failures(
    comparison: Comparison | None, masked: MaskedTokenScores | None
) -> list[tuple[str, str]]:
    both = (comparison, masked)
    return [failure for part in both if part is not None for failure in part.failures]


def _log_failures(folder: Path, failures: list[tuple[str, str]]) -> None:
    from stages.shards.failures import FAILURES_NAME, FailureLog

    log = FailureLog(folder / FAILURES_NAME)
    for row_id, reason in failures:
        log.add(row_id, reason)
    log.save()


def _explain(result: dict[str, Any], failures: list[tuple[str, str]], *, quiet: bool) -> None:
    """What the numbers do not say: what was left out, and why."""
    for measure, reason in result["skipped"].items():
        say(f"{NAME}: {measure} skipped: {reason}", quiet=quiet)
    references = {found.get("reference") for found in result.get("metrics", {}).values()}
    if "transcript" in references:
        say(f"{NAME}: words are held against transcripts of the recordings, not texts", quiet=quiet)
    for name, ids in result.get("missing", {}).items():
        say(f"{NAME}: {name} lacks {len(ids)} utterances ({ids[0]}, ...), left out for all systems")
    say_failures(NAME, failures)
