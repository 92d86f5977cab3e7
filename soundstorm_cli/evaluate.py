"""`soundstorm eval`: scores of recordings, codecs, generated speech and models, side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from soundstorm_cli.common import (
    DeviceOption,
    JsonOption,
    KeepGoingOption,
    QuietOption,
    finish,
    open_inputs,
    pick_device,
    progress,
    resolve_input,
    say,
    say_failures,
)
from stages.assets import model_folder
from stages.errors import DataMismatch

if TYPE_CHECKING:
    from stages.evaluation.cache import ScoreCache
    from stages.evaluation.comparison import Comparison
    from stages.evaluation.masked_tokens import MaskedTokenScores
    from stages.evaluation.measure import Measure
    from stages.evaluation.report import Grid
    from stages.evaluation.systems import System

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
    vocoder: Annotated[
        str | None,
        typer.Option("--vocoder", help="For a codec of mel frames: griffin-lim, or a folder."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="A SoundStorm (a folder, or mini): its masked-token loss and accuracy on INPUT's "
            "tokens. Alone, sound is not judged.",
        ),
    ] = None,
    measures: Annotated[
        str | None,
        typer.Option(
            "--measures",
            help="Of wer, dnsmos, voice, reconstruction, with commas; by default all that can be "
            "had.",
        ),
    ] = None,
    whisper: Annotated[
        str | None,
        typer.Option("--whisper", help="For WER and CER: a faster-whisper name, or a folder."),
    ] = None,
    language: Annotated[str, typer.Option("--language", help="Spoken, for Whisper.")] = "en",
    beam: Annotated[int, typer.Option("--beam", min=1, help="Whisper's beam width.")] = 1,
    compute_type: Annotated[
        str, typer.Option("--compute-type", help="Whisper's arithmetic: int8, float16, float32.")
    ] = "int8",
    prompt_seconds: Annotated[
        float,
        typer.Option(
            "--prompt-seconds", min=0.0,
            help="The prompt at the start of sound files, where no token shard says how long it "
            "is.",
        ),
    ] = 0.0,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Judge only so many utterances.")
    ] = None,
    draws: Annotated[
        int, typer.Option("--draws", min=1, help="Masks of each level and utterance, for --model.")
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Of the masks.")] = 0,
    device: DeviceOption = "auto",
    keep_going: KeepGoingOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Judge recordings, codecs, generated speech and models, side by side.

    WER and CER by Whisper, DNSMOS, similarity of the voice to the prompt and to another speaker's,
    log-mel distance and SI-SDR to the recording, masked-token loss and accuracy; each with a 95 %
    bootstrap interval over utterances.
    """
    given = resolve_input(inputs)
    systems = _parse_systems(system)
    judge_sound = model is None or bool(system or measures or whisper)
    _refuse_misfits(given, systems, model=model, judge_sound=judge_sound)
    from stages.evaluation.cache import ScoreCache
    from stages.evaluation.registry import WhisperOptions, choose_measures
    from stages.evaluation.report import document, grids_of, write_report

    device = pick_device(device)
    folder = Path(output) if output else None
    comparison: Comparison | None = None
    masked: MaskedTokenScores | None = None
    skipped: dict[str, str] = {}
    settings: dict[str, Any] = {"inputs": given}
    chosen: list[Measure] = []
    if judge_sound:
        names = [name.strip() for name in measures.split(",")] if measures else None
        hearing = None
        if whisper:
            hearing = WhisperOptions(
                model=whisper, language=language, beam=beam, compute_type=compute_type
            )
        chosen, skipped = choose_measures(names, hearing, device=device)
        settings |= {
            "systems": systems, "codec": codec, "vocoder": vocoder, "limit": limit,
            "prompt_seconds": prompt_seconds,
            "measures": {measure.name: measure.settings for measure in chosen},
        }  # fmt: skip
    with ScoreCache(folder) as cache:
        if model is not None:
            settings |= {"model": model, "draws": draws, "seed": seed}
            masked = _masked_tokens(given, model, cache, device, draws, seed, quiet=quiet)
        if judge_sound:
            speakers = {"codec": codec, "vocoder": vocoder, "device": device}
            comparison = _compare(
                given, systems, chosen, cache, speakers, limit, prompt_seconds, quiet=quiet
            )
    result = document(comparison, masked, settings=settings, skipped=skipped)
    failures = _failures(comparison, masked)
    if folder is not None:
        _log_failures(folder, failures)
        write_report(folder, result, comparison, masked)
        result["output"] = str(folder)
    _explain(result, failures, quiet=quiet)
    if not (quiet and as_json):
        _show(grids_of(comparison, masked), to_stderr=as_json)
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
    *,
    quiet: bool,
) -> MaskedTokenScores:
    from stages.evaluation.masked_tokens import score_masked_tokens

    with (
        open_inputs(given) as source,
        progress("masked tokens", source.num_rows, quiet=quiet) as advance,
    ):
        return score_masked_tokens(
            model_folder(model, "soundstorm"),
            source,
            cache,
            device=device,
            draws=draws,
            seed=seed,
            advance=advance,
        )


def _compare(
    given: list[str],
    paths: dict[str, str],
    measures: list[Measure],
    cache: ScoreCache,
    speakers: dict[str, Any],
    limit: int | None,
    prompt_seconds: float,
    *,
    quiet: bool,
) -> Comparison:
    from stages.evaluation.comparison import Task, compare, select
    from stages.evaluation.measure import Utterance
    from stages.evaluation.systems import open_system, rows_by_id, systems_of_input

    with open_inputs(given) as source:
        rows = rows_by_id(source)
        recordings, systems = systems_of_input(source, rows, **speakers)
        where = source.where
    generated: list[System] = [open_system(name, path, **speakers) for name, path in paths.items()]
    systems += generated
    if not systems:
        raise DataMismatch(f"{where} has neither audio nor acoustic tokens: nothing can be heard")
    utterances = {
        row_id: Utterance(id=row_id, text=row.get("text"), speaker=row.get("speaker"))
        for row_id, row in rows.items()
    }
    task = Task(
        utterances=utterances,
        systems=systems,
        recordings=recordings,
        prompt_seconds=prompt_seconds,
        limit=limit,
    )
    selection = select(task)
    clips = len(selection.utterances) * len(systems)
    with progress(NAME, clips, quiet=quiet) as advance:
        return compare(task, selection, measures, cache, advance=advance)


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
    for name, ids in result.get("missing", {}).items():
        say(f"{NAME}: {name} lacks {len(ids)} utterances ({ids[0]}, ...), left out for all systems")
    say_failures(NAME, failures)


def _show(grids: list[Grid], *, to_stderr: bool) -> None:
    """Tables for a terminal, or Markdown for a file or a pipe."""
    stream = sys.stderr if to_stderr else sys.stdout
    if not stream.isatty():
        from stages.evaluation.report import markdown

        print(markdown(grids), end="", file=stream)
        return
    from rich.console import Console

    from stages.evaluation.report import rich_tables

    console = Console(file=stream)
    for table in rich_tables(grids):
        console.print(table)
