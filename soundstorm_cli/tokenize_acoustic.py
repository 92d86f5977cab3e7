"""`soundstorm tokenize-acoustic`: audio to the tokens of a neural codec."""

from __future__ import annotations

from typing import Annotated

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
    WorkersOption,
    finish_rows,
    open_inputs,
    pick_device,
    refuse_json_with_stream,
    resolve_input,
    resolve_output,
    run_with_progress,
    worker_count,
)
from stages.assets import MINI

NAME = "tokenize-acoustic"


def tokenize_acoustic(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUTS",
            help="Token shards with an audio column, - for a stream, or audio: files, folders, "
            "globs, manifests.",
        ),
    ] = None,
    output: OutputOption = None,
    codec: Annotated[
        str,
        typer.Option(
            "--codec",
            envvar="SOUNDSTORM_CODEC",
            help="mini, encodec_24khz, encodec_48khz (either with :FILE for a local checkpoint), "
            "lyra:FOLDER, or a folder that train --model codec wrote.",
        ),
    ] = MINI,
    levels: Annotated[
        int | None, typer.Option("--levels", min=1, help="Levels of the residual quantiser.")
    ] = None,
    bitrate: Annotated[
        float | None,
        typer.Option("--bitrate", help="In kbit/s, instead of --levels: the most that fit."),
    ] = None,
    shard: ShardOption = None,
    rows_per_shard: RowsPerShardOption = 256,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    keep_going: KeepGoingOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add acoustic tokens to each row with audio; its other columns are kept."""
    from stages.shards.partition import parse_shard

    target = resolve_output(output)
    refuse_json_with_stream(target, as_json=as_json)
    part = parse_shard(shard) if shard else None
    with open_inputs(resolve_input(inputs)) as source:
        from stages.codec.registry import load_codec
        from stages.codec.tokenizer import AcousticTokenizer

        model = load_codec(codec, levels=levels, bitrate=bitrate, device=pick_device(device))
        stage = AcousticTokenizer(model, workers=worker_count(workers))
        result = run_with_progress(
            stage,
            source,
            output=target,
            shard=part,
            force=force,
            rows_per_shard=rows_per_shard,
            quiet=quiet,
        )
    finish_rows(NAME, result, keep_going=keep_going, as_json=as_json, quiet=quiet)
