"""`soundstorm decode`: semantic tokens to acoustic tokens, with a trained SoundStorm."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from soundstorm_cli.common import (
    DeviceOption,
    ForceOption,
    JsonOption,
    KeepGoingOption,
    OutputOption,
    QuietOption,
    ShardOption,
    finish_rows,
    open_inputs,
    pick_device,
    refuse_json_with_stream,
    resolve_input,
    resolve_output,
    run_with_progress,
)
from soundstorm_cli.semantic_options import batch_seconds_for
from soundstorm_cli.voice import VoiceSource, load_voice
from stages.assets import MINI, model_folder
from stages.errors import DataMismatch

if TYPE_CHECKING:
    from fractions import Fraction

    from stages.soundstorm.model import SoundStormModel
    from stages.soundstorm.prompt import Prompt

NAME = "decode"


def decode(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Token shards with semantic tokens, or - for a stream (the default where one is "
            "piped in).",
        ),
    ] = None,
    output: OutputOption = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            envvar="SOUNDSTORM_MODEL",
            help="The folder that train --model soundstorm wrote, or mini.",
        ),
    ] = MINI,
    iterations: Annotated[
        str,
        typer.Option(
            "--iterations",
            help="Passes of each level, coarse first; the last number repeats. 1 is greedy.",
        ),
    ] = "16,1",
    levels: Annotated[
        int | None,
        typer.Option("--levels", min=1, help="Make the coarsest levels only; all by default."),
    ] = None,
    prompt_seconds: Annotated[
        str | None,
        typer.Option(
            "--prompt-seconds",
            help="Continue each row from so many seconds of its own acoustic tokens; with "
            "--prompt, use no more of that.",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            help="Voice conversion: speak every row in the voice of this recording, or of a row "
            "of token shards.",
        ),
    ] = None,
    prompt_row: Annotated[
        str | None,
        typer.Option("--prompt-row", help="Id of the row, where --prompt names token shards."),
    ] = None,
    keep_prompt: Annotated[
        bool, typer.Option("--keep-prompt", help="Leave the --prompt at the start of each result.")
    ] = False,
    codec: Annotated[
        str | None,
        typer.Option("--codec", help="For a recording as --prompt; by default the model's codec."),
    ] = None,
    kmeans: Annotated[
        str,
        typer.Option(
            "--kmeans",
            "-k",
            envvar="SOUNDSTORM_KMEANS",
            help="For a recording as --prompt: the k-means of the model's semantic tokens.",
        ),
    ] = MINI,
    temperature: Annotated[
        float,
        typer.Option("--temperature", min=0.0, help="Of sampling; 0 takes the likeliest tokens."),
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="With a row's id, decides its result.")] = 0,
    trace: Annotated[
        str | None,
        typer.Option(
            "--trace",
            help="A Parquet file: for every token that this run makes, the pass that set it and "
            "its confidence.",
        ),
    ] = None,
    batch_seconds: Annotated[
        float | None,
        typer.Option(
            "--batch-seconds",
            min=0.0,
            help="Sound in one padded batch; 0, the default on a CPU, takes one row at a time.",
        ),
    ] = None,
    shard: ShardOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    keep_going: KeepGoingOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Generate each row's acoustic tokens from its semantic tokens, level by level in parallel."""
    from stages.shards.partition import parse_shard

    target = resolve_output(output)
    refuse_json_with_stream(target, as_json=as_json)
    part = parse_shard(shard) if shard else None
    seconds = _seconds(prompt_seconds)
    if trace is not None and not trace.endswith(".parquet"):
        raise DataMismatch(f"--trace {trace} must be a .parquet file")
    with open_inputs(resolve_input(inputs)) as source, ExitStack() as stack:
        from pathlib import Path

        import torch

        from stages.soundstorm.decoder import Decoder
        from stages.soundstorm.decoding import DecodeOptions
        from stages.soundstorm.model import from_model_file
        from stages.soundstorm.schedule import parse_iterations
        from stages.soundstorm.trace import TraceFile

        place = pick_device(device)
        loaded = from_model_file(model_folder(model, "soundstorm"), torch.device(place))
        count = _level_count(levels, loaded)
        options = DecodeOptions(
            iterations=parse_iterations(iterations, count), temperature=temperature, seed=seed
        )
        voice = VoiceSource(path=prompt, row=prompt_row, codec=codec, kmeans=kmeans, device=place)
        stage = Decoder(
            loaded,
            options,
            where=model,
            prompt=_prompt(loaded, voice, seconds, keep=keep_prompt),
            batch_seconds=batch_seconds_for(place, batch_seconds),
            trace=stack.enter_context(TraceFile(Path(trace), levels=count)) if trace else None,
        )
        result = run_with_progress(
            stage, source, output=target, shard=part, force=force, quiet=quiet
        )
    finish_rows(NAME, result, keep_going=keep_going, as_json=as_json, quiet=quiet)


def _seconds(text: str | None) -> Fraction | None:
    """Read `--prompt-seconds`, exactly."""
    from fractions import Fraction

    if text is None:
        return None
    try:
        seconds = Fraction(text)
    except (ValueError, ZeroDivisionError):
        seconds = Fraction(0)
    if seconds <= 0:
        raise DataMismatch(f"--prompt-seconds {text} is no number of seconds, such as 3")
    return seconds


def _level_count(levels: int | None, model: SoundStormModel) -> int:
    """How many levels to decode."""
    most = model.network.config.levels
    if levels is not None and levels > most:
        raise DataMismatch(f"--levels {levels} is more than the model's {most}")
    return levels or most


def _prompt(
    model: SoundStormModel, voice: VoiceSource, seconds: Fraction | None, *, keep: bool
) -> Prompt | None:
    """The prompt that the options ask for."""
    from stages.soundstorm.prompt import OwnPrompt, voice_prompt

    if voice.path is None:
        if keep or voice.row is not None:
            raise DataMismatch("--keep-prompt and --prompt-row go with --prompt: name a voice")
        return OwnPrompt(seconds=seconds) if seconds is not None else None
    row = load_voice(model, voice)
    return voice_prompt(model, row, seconds=seconds, keep=keep, where=voice.path)
