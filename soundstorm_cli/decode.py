"""`soundstorm decode`: semantic tokens to acoustic tokens, by SoundStorm or by AudioLM."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
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
    parse_seconds,
    pick_device,
    refuse_json_with_stream,
    resolve_input,
    resolve_output,
    run_with_progress,
    say,
)
from soundstorm_cli.decode_methods import (
    Asked,
    audiolm_decoder,
    prompt_for,
    soundstorm_decoder,
)
from soundstorm_cli.semantic_options import generation_batch
from soundstorm_cli.voice import VoiceSource
from stages.assets import MINI
from stages.errors import DataMismatch

if TYPE_CHECKING:
    from stages.shards.source import RowSource
    from stages.soundstorm.row_decoder import RowDecoder
    from stages.soundstorm.trace import TraceFile

NAME = "decode"
OWN_OPTIONS = {
    "soundstorm": ("model", "iterations", "guidance", "trace", "compile"),
    "audiolm": ("coarse", "fine"),
}
"""By method, the options that no other method has."""


def decode(
    context: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Token shards with semantic tokens, or - for a stream (the default where one is "
            "piped in).",
        ),
    ] = None,
    output: OutputOption = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="soundstorm, in parallel; or audiolm, token by token, with --coarse and --fine.",
        ),
    ] = "soundstorm",
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            envvar="SOUNDSTORM_MODEL",
            help="The folder that train --model soundstorm wrote, or mini.",
        ),
    ] = MINI,
    coarse: Annotated[
        str,
        typer.Option(
            "--coarse", help="The folder that train --model audiolm-coarse wrote, or mini."
        ),
    ] = MINI,
    fine: Annotated[
        str | None,
        typer.Option(
            "--fine",
            help="The folder that train --model audiolm-fine wrote; with the coarse stage of mini "
            "its own by default, and not read for coarse --levels alone.",
        ),
    ] = None,
    iterations: Annotated[
        str,
        typer.Option(
            "--iterations",
            help="Passes of each level, coarse first; the last term repeats. 1 is greedy; 1x4 is "
            "one pass for four levels together (docs/passes.md); at most 10,000 a level.",
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
    guidance: Annotated[
        str,
        typer.Option(
            "--guidance",
            help="More than 1 keeps closer to the semantic tokens, at twice the time, with a model "
            "that was trained with recipe.drop_semantic; one number, or one a level, of which the "
            "last repeats: 2,2,1 guides the two coarsest.",
        ),
    ] = "1",
    seed: Annotated[int, typer.Option("--seed", help="With a row's id, decides its result.")] = 0,
    trace: Annotated[
        str | None,
        typer.Option(
            "--trace",
            help="A Parquet file: for every token that this run makes, the pass that set it and "
            "its confidence; of shards that are done already it keeps what it has.",
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help="float32; float32-packed, by SoundStorm on a CPU: faster, rounded otherwise; "
            "int8, on a CPU, and bfloat16 or float16, by SoundStorm on a GPU or a CPU that has "
            "them: faster and a little less exact (docs/precision.md).",
        ),
    ] = "float32",
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the passes, up to minutes for each length: for many rows on a GPU.",
        ),
    ] = False,
    batch_seconds: Annotated[
        float | None,
        typer.Option(
            "--batch-seconds",
            min=0.0,
            help="Sound in one padded batch on a GPU; a CPU, and 0, take one row at a time.",
        ),
    ] = None,
    shard: ShardOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    keep_going: KeepGoingOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Generate each row's acoustic tokens from its semantic tokens.

    SoundStorm makes them level by level in parallel; AudioLM, its baseline, one by one, in chunks
    of 10 s of which the last 3 s prompt the next.
    """
    from stages.shards.partition import parse_shard

    target = resolve_output(output)
    refuse_json_with_stream(target, as_json=as_json)
    given = _given(context)
    _check_method(given, method)
    _check_prompt(given, prompt)
    part = parse_shard(shard) if shard else None
    seconds = parse_seconds(prompt_seconds, "--prompt-seconds")
    if trace is not None and not trace.endswith(".parquet"):
        raise DataMismatch(f"--trace {trace} must be a .parquet file")
    with open_inputs(resolve_input(inputs)) as source, ExitStack() as stack:
        if trace is not None:
            _refuse_as_trace(trace, source, prompt=prompt, output=target)
        import torch

        from stages.nn.precision import is_slow
        from stages.soundstorm.trace import TraceFile

        place = pick_device(device)
        voice = VoiceSource(path=prompt, row=prompt_row, codec=codec, kmeans=kmeans, device=place)
        asked = Asked(
            levels=levels,
            make_prompt=partial(prompt_for, voice, seconds, keep=keep_prompt),
            temperature=temperature,
            seed=seed,
            precision=precision,
            place=place,
            batch_seconds=generation_batch(place, batch_seconds, name=NAME, quiet=quiet),
        )

        def open_trace(count: int) -> TraceFile | None:
            return stack.enter_context(TraceFile(Path(trace), levels=count)) if trace else None

        decoder: RowDecoder
        traced: TraceFile | None = None
        if method == "audiolm":
            decoder = audiolm_decoder(asked, coarse, fine)
        else:
            decoder = soundstorm_decoder(
                asked,
                model,
                iterations=iterations,
                guidance=guidance,
                compiled=compile,
                open_trace=open_trace,
            )
            traced = decoder.trace
        if is_slow(precision, torch.device(place)):
            say(f"{NAME}: this CPU imitates {precision}: float32 is faster", quiet=quiet)
        result = run_with_progress(
            decoder, source, output=target, shard=part, force=force, quiet=quiet
        )
        if traced is not None and result.shards_skipped:
            traced.keep({row["id"] for row in source.rows(["id"])})
            say(
                f"{NAME}: {result.shards_skipped} shards already done are not traced again: "
                "--force traces them",
                quiet=quiet,
            )
    finish_rows(NAME, result, keep_going=keep_going, as_json=as_json, quiet=quiet)


def _given(context: typer.Context) -> set[str]:
    """Names of the options on the command line; the environment may name models anyway."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def _check_method(given: set[str], method: str) -> None:
    """Refuse a method that is none, and options of the other method."""
    if method not in OWN_OPTIONS:
        raise DataMismatch(f"--method {method} is neither of {' and '.join(OWN_OPTIONS)}")
    for other, names in OWN_OPTIONS.items():
        for name in names:
            if other != method and name in given:
                raise DataMismatch(f"--{name} goes with --method {other}, not with {method}")


def _check_prompt(given: set[str], prompt: str | None) -> None:
    """Refuse options of a voice where there is none, and of a recording where it is in shards."""
    from stages.shards.reader import is_token_set

    if prompt is None and given & {"keep_prompt", "prompt_row", "codec", "kmeans"}:
        raise DataMismatch(
            "--keep-prompt, --prompt-row, --codec and --kmeans go with --prompt: name a voice"
        )
    if prompt is not None and is_token_set(prompt) and given & {"codec", "kmeans"}:
        raise DataMismatch(
            f"--codec and --kmeans are for a recording as --prompt, and {prompt} holds tokens"
        )


def _refuse_as_trace(trace: str, source: RowSource, *, prompt: str | None, output: str) -> None:
    """Refuse a trace that would replace a shard that is read, or lie among those written."""
    path = Path(trace).resolve()
    if path in {file.resolve() for file in source.files}:
        raise DataMismatch(f"--trace {trace} is an input, too: choose another path")
    for option, other in (("--prompt", prompt), ("-o", output)):
        if other not in (None, "-") and Path(str(other)).resolve() in (path, path.parent):
            raise DataMismatch(
                f"--trace {trace} is, or lies in, {option} {other}: choose another path"
            )
