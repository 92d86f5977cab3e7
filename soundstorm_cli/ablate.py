"""`soundstorm ablate`: what settings of decoding are worth, on the same utterances."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from soundstorm_cli.common import (
    DeviceOption,
    ForceOption,
    JsonOption,
    KeepGoingOption,
    QuietOption,
    VocoderOption,
    finish,
    open_inputs,
    parse_seconds,
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
from soundstorm_cli.semantic_options import generation_batch
from stages.assets import MINI, model_folder

if TYPE_CHECKING:
    from fractions import Fraction

    from stages.ablation.decoding import Decoded, Decoding
    from stages.evaluation.comparison import Comparison

NAME = "ablate"


def ablate(
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o",
            help="A folder for ablation.json, table.md, figure-4.svg, passes.png and each "
            "setting's tokens. What is in it already is not made again.",
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Token shards with semantic and acoustic tokens, or - for a stream.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", envvar="SOUNDSTORM_MODEL",
            help="The folder that train --model soundstorm wrote, or mini.",
        ),
    ] = MINI,
    first_level: Annotated[
        list[int] | None,
        typer.Option(
            "--first-level", min=1, metavar="N",
            help="Passes of the first level, with greedy further levels. May be repeated, as may "
            "the next four; without any of the five: 1, 2, 4, 8, 16 and 32, twice more passes on "
            "further levels, and temperatures 0, 0.5 and 0.8.",
        ),
    ] = None,
    iterations: Annotated[
        list[str] | None,
        typer.Option(
            "--iterations", metavar="LIST",
            help="Passes of each level, as decode takes them, such as 32,32,16,1 or 16,1x4.",
        ),
    ] = None,
    temperature: Annotated[
        list[float] | None,
        typer.Option("--temperature", min=0.0, help="Of sampling, with the default's passes."),
    ] = None,
    guidance: Annotated[
        list[str] | None,
        typer.Option(
            "--guidance", metavar="LIST",
            help="As decode takes it, with the default's passes at temperature 1.",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--setting", metavar="LIST",
            help="Passes of each level with a temperature or a guidance of their own, such as "
            "'8,1x4 temperature=0.5 guidance=2,2,1'.",
        ),
    ] = None,
    default: Annotated[
        str,
        typer.Option(
            "--default", metavar="LIST",
            help="The passes that all others are held against, at temperature 1, not guided.",
        ),
    ] = "16,1",
    prompt_seconds: Annotated[
        str,
        typer.Option(
            "--prompt-seconds",
            help="Continue each row from so many seconds of its own acoustic tokens; 0 for no "
            "prompt.",
        ),
    ] = "3",
    seed: Annotated[int, typer.Option("--seed", help="With a row's id, decides its result.")] = 0,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Only so many utterances, spread over the ids."),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option("--codec", help="The codec of all tokens; by default the one they name."),
    ] = None,
    vocoder: VocoderOption = None,
    measures: MeasuresOption = None,
    judge: JudgeOption = None,
    whisper: WhisperOption = None,
    language: LanguageOption = "en",
    beam: BeamOption = 1,
    compute_type: ComputeTypeOption = "int8",
    reference: ReferenceOption = "auto",
    speaker_encoder: SpeakerEncoderOption = None,
    consistency: ConsistencyOption = None,
    workers: JudgeWorkersOption = None,
    batch_seconds: Annotated[
        float | None,
        typer.Option(
            "--batch-seconds", min=0.0,
            help="Sound in one padded batch on a GPU; a CPU takes one row at a time.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    keep_going: KeepGoingOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Decode the same utterances with many settings, judge each, and say what differs.

    The paper's Figure 4 and its comparison of more iterations and of greedy decoding, with the
    time that each setting took, and every difference to the default with a 95 % interval.
    """
    given = resolve_input(inputs)
    seconds = None if prompt_seconds == "0" else parse_seconds(prompt_seconds, "--prompt-seconds")
    from stages.ablation.decoding import decode_settings
    from stages.ablation.results import document, grids, write
    from stages.ablation.sample import Sample
    from stages.ablation.scoring import task_of
    from stages.ablation.settings import plan
    from stages.evaluation.cache import ScoreCache
    from stages.evaluation.comparison import select
    from stages.evaluation.intelligibility import settle_reference

    place = pick_device(device)
    judges, hearing, skipped = choose_judges(
        measures, judge, whisper, device=place, language=language, beam=beam,
        compute_type=compute_type, reference=reference, consistency=consistency,
        speaker_encoder=speaker_encoder,
    )  # fmt: skip
    batch = generation_batch(place, batch_seconds, name=NAME, quiet=quiet)
    common = _common(model, place, seconds, batch, seed)
    chosen = plan(
        common.model.levels,
        first_level=first_level,
        iterations=iterations,
        temperatures=temperature,
        guidances=guidance,
        settings=setting,
        default=default,
    )
    with open_inputs(given) as source:
        sample = Sample(source, limit)
    folder = Path(output)
    clips = len(chosen.settings) * (sample.num_rows or 0)
    with progress("decode", clips, quiet=quiet) as advance:
        decoded = decode_settings(chosen, sample, folder, common, force=force, advance=advance)
    say_failures(NAME, decoded.failures)  # now, as nothing may be left to be judged
    task = task_of(chosen, sample, folder, codec=codec, vocoder=vocoder, device=place)
    judges = settle_reference(judges, hearing.reference, task.utterances.values())
    with ScoreCache(folder) as cache:
        comparison = judge_task(
            "judge", task, select(task), judges, cache, workers=workers, device=place, quiet=quiet
        )
    settings = {
        "inputs": given, "model": model, "soundstorm": common.model.fingerprint,
        "prompt_seconds": prompt_seconds, "seed": seed, "limit": limit, "codec": codec,
        "vocoder": vocoder, "batch_seconds": common.batch_seconds,
        "measures": {measure.name: measure.settings for measure in judges},
    }  # fmt: skip
    result = document(chosen, comparison, decoded.times, settings=settings)
    undrawn = write(folder, result, comparison.metrics)
    if undrawn is not None:
        say(f"{NAME}: no figure-4.svg: {undrawn}", quiet=quiet)
    _explain(decoded, comparison, skipped | comparison.skipped, quiet=quiet)
    if not (quiet and as_json):
        show_tables(grids(result, comparison.metrics), to_stderr=as_json)
    failed = decoded.failed + len(comparison.failures)
    finish(result | {"output": output}, failed=failed, keep_going=keep_going, as_json=as_json)


def _common(
    model: str, device: str, seconds: Fraction | None, batch_seconds: float, seed: int
) -> Decoding:
    """The model, and all else that no setting changes."""
    import torch

    from stages.ablation.decoding import Decoding
    from stages.machine import describe
    from stages.soundstorm.model import from_model_file
    from stages.soundstorm.prompt import OwnPrompt

    return Decoding(
        model=from_model_file(model_folder(model, "soundstorm"), torch.device(device)),
        where=model,
        prompt=OwnPrompt(seconds=seconds) if seconds is not None else None,
        batch_seconds=batch_seconds,
        seed=seed,
        machine=describe(torch.device(device)),
    )


def _explain(
    decoded: Decoded, comparison: Comparison, skipped: dict[str, str], *, quiet: bool
) -> None:
    """What the numbers do not say."""
    from stages.ablation.results import STAR

    for measure, reason in skipped.items():
        say(f"{NAME}: {measure} skipped: {reason}", quiet=quiet)
    say_failures(NAME, comparison.failures)
    if decoded.failed:
        say(f"{NAME}: {decoded.failed} utterances could not be decoded, left out for all settings")
    say(f"{NAME}: {decoded.parts_written} parts decoded. {STAR}", quiet=quiet)
