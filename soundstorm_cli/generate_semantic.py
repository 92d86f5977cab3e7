"""`soundstorm generate-semantic`: continue what rows say, or speak freely."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from soundstorm_cli.common import (
    DeviceOption,
    ForceOption,
    JsonOption,
    KeepGoingOption,
    OutputOption,
    QuietOption,
    RowsPerShardOption,
    ShardOption,
    finish_rows,
    open_inputs,
    parse_seconds,
    pick_device,
    refuse_json_with_stream,
    resolve_input,
    resolve_output,
    run_with_progress,
)
from soundstorm_cli.semantic_options import generation_batch
from stages.assets import MINI, model_folder
from stages.errors import DataMismatch

if TYPE_CHECKING:
    from stages.shards.source import RowSource

NAME = "generate-semantic"


def generate_semantic(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Token shards with semantic tokens to continue, or - for a stream (the default "
            "where one is piped in); none with --free.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            envvar="SOUNDSTORM_SEMANTIC_MODEL",
            help="The folder that train --model audiolm-semantic wrote, or mini.",
        ),
    ] = MINI,
    output: OutputOption = None,
    seconds: Annotated[
        str, typer.Option("--seconds", help="How much to generate, beyond what is continued.")
    ] = "10",
    prompt_seconds: Annotated[
        str | None,
        typer.Option(
            "--prompt-seconds",
            help="Continue each row from its first so many seconds, and drop the rest of it; by "
            "default continue all of it.",
        ),
    ] = None,
    free: Annotated[
        int | None,
        typer.Option("--free", min=1, metavar="N", help="Speak freely: make N rows from nothing."),
    ] = None,
    until_end: Annotated[
        bool,
        typer.Option(
            "--until-end",
            help="Stop where the model ends its utterance, after --seconds at the latest; by "
            "default go on for all of them.",
        ),
    ] = False,
    temperature: Annotated[
        float,
        typer.Option("--temperature", min=0.0, help="Of sampling; 0 takes the likeliest tokens."),
    ] = 1.0,
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", help="Choose among so many of the likeliest tokens only."),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p",
            help="Choose among the likeliest tokens that together have this probability only.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="With a row's id, decides its result.")] = 0,
    batch_seconds: Annotated[
        float | None,
        typer.Option(
            "--batch-seconds",
            min=0.0,
            help="Speech in one padded batch on a GPU; a CPU, and 0, take one row at a time.",
        ),
    ] = None,
    rows_per_shard: RowsPerShardOption = 256,
    shard: ShardOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    keep_going: KeepGoingOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Generate semantic tokens with AudioLM's first stage.

    A row's acoustic tokens, where it has any, are kept as far as its semantic tokens are
    continued; decode --prompt-seconds then goes on in their voice.
    """
    from stages.shards.partition import parse_shard

    target = resolve_output(output)
    refuse_json_with_stream(target, as_json=as_json)
    part = parse_shard(shard) if shard else None
    length = parse_seconds(seconds, "--seconds")
    assert length is not None
    prompt = parse_seconds(prompt_seconds, "--prompt-seconds")
    if free is not None and (inputs or prompt is not None):
        raise DataMismatch("--free makes rows from nothing: leave out INPUT and --prompt-seconds")
    with _open(inputs, free) as source:
        import torch

        from stages.audiolm.config import SemanticConfig
        from stages.audiolm.model import from_model_file
        from stages.audiolm.sampling import Sampling
        from stages.audiolm.speaker import Speaker, SpeakOptions

        place = pick_device(device)
        options = SpeakOptions(
            seconds=length,
            sampling=Sampling(temperature=temperature, top_k=top_k, top_p=top_p),
            seed=seed,
            free=free is not None,
            prompt_seconds=prompt,
            until_end=until_end,
        )
        folder = model_folder(model, "audiolm-semantic")
        stage = Speaker(
            from_model_file(folder, SemanticConfig, torch.device(place)),
            options,
            where=model,
            batch_seconds=generation_batch(place, batch_seconds, name=NAME, quiet=quiet),
        )
        result = run_with_progress(
            stage,
            source,
            output=target,
            shard=part,
            force=force,
            quiet=quiet,
            rows_per_shard=rows_per_shard,
        )
    finish_rows(NAME, result, keep_going=keep_going, as_json=as_json, quiet=quiet)


def _open(inputs: list[str] | None, free: int | None) -> RowSource:
    """The rows to continue, or rows with nothing but an id."""
    if free is None:
        return open_inputs(resolve_input(inputs))
    from stages.shards.source import UtteranceList

    return UtteranceList(
        [{"id": f"free-{number:06d}"} for number in range(free)], where=f"--free {free}"
    )
