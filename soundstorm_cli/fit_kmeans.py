"""`soundstorm fit-kmeans`: cluster an encoder's frames, for tokenize-semantic."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from soundstorm_cli.common import (
    DeviceOption,
    ForceOption,
    JsonOption,
    KeepGoingOption,
    QuietOption,
    WorkersOption,
    finish,
    open_inputs,
    pick_device,
    progress,
    resolve_input,
    say,
    say_failures,
    worker_count,
)
from soundstorm_cli.semantic_options import (
    BatchSecondsOption,
    EncoderOption,
    LayerOption,
    RateOption,
    ReduceOption,
    UnitToMelOption,
    batch_seconds_for,
    encoder_choice,
    refiner_choice,
)
from stages.errors import DataMismatch

NAME = "fit-kmeans"


def fit_kmeans(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUTS",
            help="Audio (files, folders, globs, TSV, CSV or JSONL manifests), or token shards with "
            "an audio column, or - for a stream.",
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="The folder to write the k-means to.")
    ] = "kmeans",
    encoder: EncoderOption = "logmel",
    layer: LayerOption = None,
    rate: RateOption = None,
    reduce: ReduceOption = None,
    refiner: Annotated[
        str | None,
        typer.Option(
            "--refiner",
            help="Move the frames first, and those of tokenize-semantic, too: a folder that train "
            "--model refiner wrote, or mini.",
        ),
    ] = None,
    unit_to_mel: UnitToMelOption = None,
    clusters: Annotated[
        int, typer.Option("--clusters", "-c", help="How many tokens there will be.")
    ] = 1024,
    max_frames: Annotated[
        int | None,
        typer.Option("--max-frames", help="Use this many frames, of utterances drawn at random."),
    ] = None,
    memory: Annotated[
        float,
        typer.Option(
            "--memory",
            help="GiB for frames; what does not fit is kept in a file beside the output.",
        ),
    ] = 2.0,
    iterations: Annotated[
        int, typer.Option("--iterations", help="Of k-means over the frames in memory.")
    ] = 25,
    passes: Annotated[
        int,
        typer.Option("--passes", help="Mini-batch passes over all frames, if memory is too small."),
    ] = 2,
    seed: Annotated[int, typer.Option("--seed", min=0, max=(1 << 31) - 1)] = 0,
    workers: WorkersOption = None,
    batch_seconds: BatchSecondsOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    keep_going: KeepGoingOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fit k-means on an encoder's frames and report how good it is."""
    from pathlib import Path

    from stages.semantic.clustering import ClusteringConfig
    from stages.semantic.clustering import fit_kmeans as fit
    from stages.semantic.encoders.registry import load_chosen
    from stages.semantic.kmeans import save_kmeans
    from stages.semantic.unit_search.refining import load_refinement
    from stages.shards.failures import FAILURES_NAME, FailureLog

    folder = Path(output)
    _refuse_to_overwrite(folder, force=force)
    if not 0 < memory < float("inf"):
        raise DataMismatch(f"--memory {memory} is no amount in GiB, such as 2")
    choice = encoder_choice(encoder or "logmel", layer=layer, rate=rate, reduce=reduce)
    if unit_to_mel is not None and refiner is None:
        raise DataMismatch("--unit-to-mel speaks to a refiner: add --refiner FOLDER")
    config = ClusteringConfig(
        clusters=clusters,
        seed=seed,
        iterations=iterations,
        passes=passes,
        memory=int(memory * (1 << 30)),
        max_frames=max_frames,
    )
    with open_inputs(resolve_input(inputs)) as source:
        source.require_columns("audio")
        rows: list[dict[str, Any]] = list(source.rows(columns=["id", "audio"]))
    place = pick_device(device)
    loaded = load_chosen(choice, device=place)
    moved_by = refiner_choice(refiner, unit_to_mel)
    refinement = load_refinement(moved_by, loaded.fingerprint, device=place)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataMismatch(f"{folder} cannot be made ({error.strerror}): choose another") from None
    with progress(NAME, len(rows), quiet=quiet) as advance:
        result = fit(
            loaded,
            choice,
            rows,
            config,
            refinement=refinement,
            refiner=moved_by,
            workers=worker_count(workers),
            batch_seconds=batch_seconds_for(place, batch_seconds),
            scratch=folder,
            advance=advance,
        )
    save_kmeans(result.kmeans, folder)
    log = FailureLog(folder / FAILURES_NAME)
    for row_id, reason in result.failures:
        log.add(row_id, reason)
    log.save()
    say_failures(NAME, result.failures)
    report = result.kmeans.report
    say(
        f"{NAME}: {report['frames']} frames of {report['utterances']} utterances, inertia "
        f"{report['inertia']:.4g} ({report['inertia_share_of_variance']:.1%} of the variance), "
        f"{report['clusters_used']} of {clusters} clusters used (perplexity "
        f"{report['cluster_perplexity']:.0f}), seed {seed}, to {output}",
        quiet=quiet,
    )
    finish(
        {"output": output, "encoder": result.kmeans.encoder, "clusters": clusters,
         "failed": len(result.failures), "failures": log.lines, **report},
        failed=len(result.failures),
        keep_going=keep_going,
        as_json=as_json,
    )  # fmt: skip


def _refuse_to_overwrite(folder: Any, *, force: bool) -> None:
    """A k-means decides what tokens mean: never replace one unasked."""
    from stages.nn.model_file import CONFIG_NAME

    if folder.is_file():
        raise DataMismatch(f"{folder} is a file: give -o a folder for the k-means")
    if (folder / CONFIG_NAME).exists() and not force:
        raise DataMismatch(f"{folder} already holds a model: choose another folder or --force")
