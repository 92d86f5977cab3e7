"""`soundstorm train`: train any of the toolkit's models."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from soundstorm_cli.common import DeviceOption, JsonOption, QuietOption, finish, open_inputs, say
from stages.assets import model_folder

if TYPE_CHECKING:
    from stages.training.settings import TrainingSettings


def train(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Token shards for soundstorm and audiolm-*; shards with audio and semantic tokens "
            "for student; audio (files, folders, manifests, or shards that name audio) for the "
            "other models."
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="The run's folder; resumed if it was begun.")
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="soundstorm, codec, vocoder, source-filter, best-rq, student, bottleneck, "
            "unit-to-mel, refiner, consistency, audiolm-semantic, audiolm-coarse or audiolm-fine.",
        ),
    ] = "soundstorm",
    preset: Annotated[
        str, typer.Option("--preset", "-p", help="Where settings start: mini, base or 350m.")
    ] = "mini",
    config: Annotated[
        str | None, typer.Option("--config", help="A TOML file of settings that differ from it.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting, as optimiser.clip_norm=0.5."),
    ] = None,
    valid: Annotated[
        list[str] | None, typer.Option("--valid", help="Data to validate on, of the same kind.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            help="A run or model whose weights to start from, or mini; a run that is resumed needs "
            "it no more.",
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            help="For soundstorm, audiolm-coarse and audiolm-fine: the tokens' codec, from whose "
            "codebooks embeddings start. For vocoder and source-filter: the codec whose frames "
            "it ends or learns on.",
        ),
    ] = None,
    kmeans: Annotated[
        str | None,
        typer.Option(
            "--kmeans",
            help="A folder, or mini. For soundstorm, audiolm-semantic and audiolm-coarse: the "
            "tokens' k-means, from whose centroids embeddings start. For student: the teacher's, "
            "from whose centroids the head starts. For unit-to-mel and refiner: that of the units.",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="FOLDER[:LAYER]",
            help="For consistency: the best-rq model, and the layer, that it listens with. For "
            "bottleneck, unit-to-mel and refiner: whisper:FOLDER, the teacher. For soundstorm: "
            "whisper:FOLDER, which listens to what it speaks; it needs --codec, too.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of everything random.")] = None,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=0, help="Stop after this many steps in all.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", min=0, help="Stop after so long, this time.")
    ] = None,
    checkpoint_minutes: Annotated[
        float, typer.Option("--checkpoint-minutes", min=0, help="Minutes between checkpoints.")
    ] = 10.0,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Go on from the run's checkpoint; --no-resume refuses a folder that has one.",
        ),
    ] = True,
    device: DeviceOption = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=0,
            help="Processes that make batches, and track pitch: 0 for tokens, else all cores.",
        ),
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model; the same command again resumes it where it stopped.

    Stops at --max-steps, --max-minutes, SIGTERM (exit 0) or Ctrl-C (exit 130), from the first step
    on with a checkpoint and a model folder that `decode --model` takes; before it, while it
    prepares the data, a signal ends it at once (exit 143 or 130). Under torchrun, all processes
    train one model.
    """
    recipe = {"codec": codec, "kmeans": kmeans, "encoder": encoder}
    settings = _settings(model, preset, config, assignments or [], seed, **recipe)
    import torch

    from soundstorm_cli.common import pick_device, worker_count
    from stages.allocator import keep_freed_memory
    from stages.training.distributed import join_processes, local_device
    from stages.training.loop import Trainer, describe
    from stages.training.stopping import Limits, Stopper
    from stages.training.tasks import ON_TOKENS, TaskInputs, build_task

    run = Path(output)
    place = local_device(pick_device(device))
    limits = Limits(
        max_steps=max_steps, max_minutes=max_minutes, checkpoint_minutes=checkpoint_minutes
    )
    stopper = Stopper(limits)  # its minutes count from here
    reads_audio = settings.model not in ON_TOKENS
    workers = worker_count(workers) if reads_audio else workers or 0
    _check_run_folder(run, resume)
    with ExitStack() as stack:
        processes = stack.enter_context(join_processes(place))
        quiet = quiet or not processes.is_first

        def warn(text: str) -> None:
            say(f"train: {text}", quiet=not processes.is_first)

        task = build_task(
            settings,
            TaskInputs(
                train=stack.enter_context(open_inputs(inputs)),
                valid=stack.enter_context(open_inputs(valid)) if valid else None,
                run=run,
                device=torch.device(place),
                processes=processes,
                warn=warn,
                workers=workers,
            ),
        )
        trainer = Trainer(
            task,
            run,
            init=None if init is None else model_folder(init, settings.model),
            processes=processes,
            workers=workers,
            report=lambda step, values: say(f"step {step}  {describe(values)}", quiet=quiet),
            warn=warn,
        )
        resumed = trainer.resume()
        count = sum(p.numel() for p in task.players["model"].parameters())
        say(
            f"train: {settings.model} ({settings.preset}), {count / 1e6:.1f} M parameters, on "
            f"{place}" + f", from step {trainer.step}" * resumed,
            quiet=quiet,
        )
        keep_freed_memory()
        if not stopper.is_over(trainer.step):
            task.prepare()  # until the first step, a signal ends the command at once
        with stopper:
            result = trainer.run(stopper)
        say(f"train: {result.step} steps, {result.seconds / 60:.1f} minutes, {run}", quiet=quiet)
        if processes.is_first:
            finish(
                {
                    "output": str(run),
                    "step": result.step,
                    "start_step": result.start_step,
                    "seconds": result.seconds,
                    "metrics": result.metrics,
                },
                failed=0,
                keep_going=False,
                as_json=as_json,
            )
    if result.interrupted:
        raise KeyboardInterrupt


def _check_run_folder(run: Path, resume: bool) -> None:
    """A folder is empty, or a run to resume; never overwrite a model that came from elsewhere."""
    from stages.errors import DataMismatch
    from stages.nn.model_file import CONFIG_NAME
    from stages.training.checkpoint import has_checkpoint
    from stages.training.loop import CHECKPOINTS_NAME

    begun = has_checkpoint(run / CHECKPOINTS_NAME)
    if begun and not resume:
        raise DataMismatch(f"{run} has a checkpoint: leave out --no-resume, or use another -o")
    if not begun and (run / CONFIG_NAME).exists():
        raise DataMismatch(f"{run} holds a model and no run to resume: use another -o")
    if run.exists() and not run.is_dir():
        raise DataMismatch(f"{run} is a file: give -o a folder")


def _settings(
    model: str,
    preset_name: str,
    config: str | None,
    assignments: list[str],
    seed: int | None,
    **recipe: str | None,
) -> TrainingSettings:
    """The preset, then the TOML file, then the flags."""
    from stages.training.presets import preset
    from stages.training.settings import overlay, parse_assignments, read_toml

    settings = preset(model, preset_name)
    if config is not None:
        settings = overlay(settings, read_toml(config), where=config)
    settings = overlay(settings, parse_assignments(assignments), where="--set")
    for name, value in recipe.items():
        if value is not None:
            settings = overlay(settings, {"recipe": {name: value}}, where=f"--{name}")
    return settings if seed is None else overlay(settings, {"seed": seed}, where="--seed")
