"""The options by which the semantic commands name an encoder."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from soundstorm_cli.common import say
from stages.assets import MINI
from stages.errors import DataMismatch

if TYPE_CHECKING:
    from stages.semantic.kmeans import EncoderChoice, RefinerChoice

EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder", "-e",
        help="logmel; wav2vec2_base, ... (fairseq2); wav2vec2[/ARCH]:FILE, w2vbert[/ARCH]:FILE; "
        "hf:NAME or hf:FOLDER; whisper:NAME or whisper:FOLDER; hubert_base, wavlm_base, ..., also "
        "with :FILE; mini, the bottleneck that ships; or the folder of a best-rq, student or "
        "bottleneck model.",
    ),
]  # fmt: skip
LayerOption = Annotated[
    int | None,
    typer.Option("--layer", min=1, help="Layer of the encoder to take, from 1; its own default."),
]
RateOption = Annotated[
    str | None,
    typer.Option("--rate", help="Bring frames down to this many a second, such as 25."),
]
ReduceOption = Annotated[
    str | None,
    typer.Option("--reduce", help="How: mean of neighbouring frames (the default), or drop."),
]
RefinerOption = Annotated[
    str | None,
    typer.Option(
        "--refiner",
        help="What moves frames to where their units sound more like the recording: a folder that "
        "train --model refiner wrote, mini, or none; by default what the k-means was fitted with, "
        "which for mini is mini.",
    ),
]
UnitToMelOption = Annotated[
    str | None,
    typer.Option(
        "--unit-to-mel",
        help="What speaks units to a refiner and in a search: the folder of a unit-to-mel model, "
        "or mini, the default.",
    ),
]
BatchSecondsOption = Annotated[
    float | None,
    typer.Option(
        "--batch-seconds",
        min=0.0,
        help="Audio in one padded batch; 0, the default on a CPU, takes one utterance at a time.",
    ),
]

NO_REFINER = "none"

_GPU_BATCH_SECONDS = 240.0


def encoder_choice(
    spec: str, *, layer: int | None, rate: str | None, reduce: str | None
) -> EncoderChoice:
    """Check the options.

    Raises:
        DataMismatch: if a rate or a reduction is malformed.
    """
    from fractions import Fraction

    from stages.semantic.encoders.reduced import REDUCTIONS
    from stages.semantic.kmeans import EncoderChoice

    reduction = reduce or "mean"
    if reduction not in REDUCTIONS:
        raise DataMismatch(f"--reduce {reduce} is neither of {' and '.join(REDUCTIONS)}")
    try:
        exact = None if rate is None else Fraction(rate)
    except (ValueError, ZeroDivisionError):
        raise DataMismatch(f"--rate {rate} is no number of frames a second, such as 25") from None
    return EncoderChoice(spec=spec, layer=layer, rate=exact, reduction=reduction)


def refiner_choice(
    spec: str | None, unit_to_mel: str | None, fitted: RefinerChoice | None = None
) -> RefinerChoice | None:
    """The refiner that is meant.

    Args:
        spec: a folder, `mini` or `none`; None for that of `fitted`.
        unit_to_mel: what speaks to it.
        fitted: what a k-means was fitted with.
    """
    from stages.semantic.kmeans import RefinerChoice

    if spec is None and fitted is not None:
        return RefinerChoice(spec=fitted.spec, unit_to_mel=unit_to_mel or fitted.unit_to_mel)
    if spec is None or spec == NO_REFINER:
        return None
    return RefinerChoice(spec=spec, unit_to_mel=unit_to_mel or MINI)


def batch_seconds_for(device: str, given: float | None) -> float:
    """What was asked for, or a batch that suits the device.

    Raises:
        DataMismatch: if what was asked for is no finite number.
    """
    if given is not None:
        if not math.isfinite(given):
            raise DataMismatch(f"--batch-seconds {given} is no number of seconds, such as 60")
        return given
    return 0.0 if device == "cpu" else _GPU_BATCH_SECONDS


def generation_batch(device: str, given: float | None, *, name: str, quiet: bool) -> float:
    """As `batch_seconds_for`, for what makes tokens, which on a CPU takes one row at a time.

    Args:
        device: where.
        given: what was asked for.
        name: of the command, which tells that a CPU has no batches.
        quiet: whether to leave that out.
    """
    batch = batch_seconds_for(device, given)
    if device == "cpu" and batch > 0:
        say(
            f"{name}: --batch-seconds {given:g} is for a GPU: on a CPU each row is generated "
            "alone, whatever its neighbours are",
            quiet=quiet,
        )
        return 0.0
    return batch
