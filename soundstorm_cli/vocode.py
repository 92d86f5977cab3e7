"""`soundstorm vocode`: acoustic tokens to sound files, or to a player."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from soundstorm_cli.common import (
    DeviceOption,
    ForceOption,
    JsonOption,
    KeepGoingOption,
    QuietOption,
    ShardOption,
    VocoderOption,
    finish,
    pick_device,
    progress,
    refuse_json_with_stream,
    resolve_input,
    say,
    say_failures,
)
from stages.errors import DataMismatch

NAME = "vocode"
DEFAULT_OUTPUT = "wavs"


class SoundFormat(StrEnum):
    """What a sound file is written as."""

    wav = "wav"
    flac = "flac"


def vocode(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT", help="Token shards with acoustic tokens, or - for a stream."
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="A folder, or - for one WAV stream on standard output."
        ),
    ] = DEFAULT_OUTPUT,
    codec: Annotated[
        str | None,
        typer.Option("--codec", help="The codec of the tokens; by default the one they name."),
    ] = None,
    vocoder: VocoderOption = None,
    sound_format: Annotated[
        SoundFormat, typer.Option("--format", help="Of the files.")
    ] = SoundFormat.wav,
    raw: Annotated[
        bool, typer.Option("--raw", help="With -o -: PCM s16le without a WAV header.")
    ] = False,
    shard: ShardOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    keep_going: KeepGoingOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn acoustic tokens into sound: one file a row, or one stream of all rows.

    A row of T frames lasts T frames. Sound starts before the input has ended.
    """
    from stages.shards.partition import parse_shard
    from stages.shards.pipes import binary_stdout
    from stages.shards.reader import open_rows

    refuse_json_with_stream(output, as_json=as_json)
    part = parse_shard(shard) if shard else None
    _refuse_misfits(output, sound_format, raw=raw, shard=shard)
    sink = binary_stdout() if output == "-" else None
    with open_rows(resolve_input(inputs)) as source:
        from stages.codec.vocoding import codec_for, vocode_to_folder, vocode_to_stream

        model = codec_for(source, codec, vocoder=vocoder, device=pick_device(device))
        with progress(NAME, source.num_rows, quiet=quiet) as advance:
            if sink is not None:
                result = vocode_to_stream(model, source, sink, raw=raw, advance=advance)
            else:
                result = vocode_to_folder(
                    model,
                    source,
                    Path(output),
                    sound_format=sound_format.value,
                    shard=part,
                    force=force,
                    advance=advance,
                )
    say_failures(NAME, [(line["id"], line["reason"]) for line in result.failures])
    where = "standard output" if sink is not None else output
    already = f", {result.skipped} were there already" if result.skipped else ""
    say(f"{NAME}: {result.rows} rows, {result.seconds:.1f} s to {where}{already}", quiet=quiet)
    if result.clipped:
        loud = "louder than full scale in places, and cut to it there"
        say(f"{NAME}: {result.clipped} rows are {loud}", quiet=quiet)
    if result.failed:
        say(f"{NAME}: {result.failed} rows failed")
    finish(result.to_json(), failed=result.failed, keep_going=keep_going, as_json=as_json)


def _refuse_misfits(
    output: str, sound_format: SoundFormat, *, raw: bool, shard: str | None
) -> None:
    """Options that belong to the other kind of output."""
    if output != "-" and raw:
        raise DataMismatch("--raw is for a stream: give -o - too")
    if output == "-" and sound_format is not SoundFormat.wav:
        raise DataMismatch("a stream is WAV, or PCM with --raw: --format is for files")
    if output == "-" and shard is not None:
        raise DataMismatch("--shard splits work into files: give -o a folder")
