"""`soundstorm tokenize-semantic`: audio to semantic tokens."""

from __future__ import annotations

from enum import StrEnum
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
from soundstorm_cli.semantic_options import (
    BatchSecondsOption,
    EncoderOption,
    LayerOption,
    RateOption,
    ReduceOption,
    RefinerOption,
    UnitToMelOption,
    batch_seconds_for,
    encoder_choice,
    refiner_choice,
)
from stages.assets import MINI, model_folder
from stages.errors import DataMismatch

if TYPE_CHECKING:
    from stages.semantic.kmeans import EncoderChoice, KMeans
    from stages.semantic.unit_search.searcher import UnitSearch

NAME = "tokenize-semantic"


class SearchEffort(StrEnum):
    """How long to search; the keys of `stages.semantic.unit_search.searching.EFFORTS`."""

    quick = "quick"
    full = "full"


def tokenize_semantic(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUTS",
            help="Audio (files, folders, globs, TSV, CSV or JSONL manifests), or token shards with "
            "an audio column, or - for a stream.",
        ),
    ] = None,
    output: OutputOption = None,
    kmeans: Annotated[
        str,
        typer.Option(
            "--kmeans",
            "-k",
            envvar="SOUNDSTORM_KMEANS",
            help="The folder that fit-kmeans wrote, or mini; it names the encoder, too.",
        ),
    ] = MINI,
    refiner: RefinerOption = None,
    search: Annotated[
        str | None,
        typer.Option(
            "--search",
            metavar="whisper:FOLDER",
            help="Choose units by how they sound when they are spoken, not the nearest ones; this "
            "Whisper listens. Fewer words are lost, and it takes far longer.",
        ),
    ] = None,
    search_effort: Annotated[
        SearchEffort | None,
        typer.Option(
            "--search-effort",
            help="How long to --search: full takes four times as long as quick and finds a little "
            "more, of which no word was heard.",
            show_default="quick",
        ),
    ] = None,
    unit_to_mel: UnitToMelOption = None,
    encoder: EncoderOption = None,
    layer: LayerOption = None,
    rate: RateOption = None,
    reduce: ReduceOption = None,
    shard: ShardOption = None,
    rows_per_shard: RowsPerShardOption = 256,
    workers: WorkersOption = None,
    batch_seconds: BatchSecondsOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    keep_going: KeepGoingOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add semantic tokens to each row with audio; its other columns are kept."""
    from stages.shards.partition import parse_shard

    target = resolve_output(output)
    refuse_json_with_stream(target, as_json=as_json)
    part = parse_shard(shard) if shard else None
    with open_inputs(resolve_input(inputs)) as source:
        from stages.semantic.encoders.registry import load_chosen
        from stages.semantic.kmeans import load_kmeans
        from stages.semantic.tokenizer import SemanticTokenizer
        from stages.semantic.unit_search.refining import load_refinement

        clusters = load_kmeans(model_folder(kmeans, "kmeans"))
        place = pick_device(device)
        choice = _choice(clusters, encoder, layer=layer, rate=rate, reduce=reduce)
        refinement = load_refinement(
            refiner_choice(refiner, unit_to_mel, clusters.refiner),
            clusters.encoder_fingerprint,
            device=place,
        )
        if unit_to_mel is not None and refinement is None and search is None:
            raise DataMismatch(
                "--unit-to-mel speaks to a refiner and in a search: add --refiner FOLDER or "
                "--search whisper:FOLDER"
            )
        if search_effort is not None and search is None:
            raise DataMismatch("--search-effort is of a search: add --search whisper:FOLDER")
        stage = SemanticTokenizer(
            load_chosen(choice, device=place, kmeans=kmeans if encoder is None else None),
            clusters,
            refinement=refinement,
            search=_searcher(search, search_effort, unit_to_mel, clusters, device=place),
            where=kmeans,
            workers=worker_count(workers),
            batch_seconds=batch_seconds_for(place, batch_seconds),
        )
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


def _searcher(
    ear: str | None,
    effort: SearchEffort | None,
    unit_to_mel: str | None,
    kmeans: KMeans,
    *,
    device: str,
) -> UnitSearch | None:
    if ear is None:
        return None
    from stages.semantic.unit_search.searcher import UnitSearch
    from stages.semantic.unit_search.searching import EFFORTS

    folder = model_folder(unit_to_mel or MINI, "unit-to-mel")
    settings = EFFORTS[effort or "quick"]
    return UnitSearch(folder, kmeans, ear=ear, device=device, settings=settings)


def _choice(
    kmeans: KMeans,
    spec: str | None,
    *,
    layer: int | None,
    rate: str | None,
    reduce: str | None,
) -> EncoderChoice:
    """The encoder that the k-means names, with what the command line says instead."""
    fitted = kmeans.choice
    if spec is not None and spec != fitted.spec:
        return encoder_choice(spec, layer=layer, rate=rate, reduce=reduce)
    return encoder_choice(
        fitted.spec,
        layer=layer if layer is not None else fitted.layer,
        rate=rate if rate is not None or fitted.rate is None else str(fitted.rate),
        reduce=reduce or fitted.reduction,
    )
