"""From the name of a model and its inputs to its task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from stages.errors import DataMismatch
from stages.shards.source import RowSource
from stages.training.distributed import Processes
from stages.training.settings import TrainingSettings
from stages.training.task import Task

if TYPE_CHECKING:
    from stages.codec.mel.config import SourceFilterConfig
    from stages.training.semantic_store import SemanticStore
    from stages.training.speech import SpeechSet
    from stages.training.token_store import TokenStore

CACHE_NAME = "cache"

Store = TypeVar("Store")


@dataclass(frozen=True, kw_only=True)
class TaskInputs:
    """What a task is built from, beside its settings."""

    train: RowSource

    valid: RowSource | None

    run: Path
    """The run's folder; caches of the data lie in it."""

    device: torch.device

    processes: Processes

    warn: Callable[[str], None]
    """Takes a sentence for the user."""

    workers: int = 0
    """Processes for what is worked out of recordings before the first step; one at least."""


def _soundstorm(settings: TrainingSettings, inputs: TaskInputs) -> Task[Any]:
    from stages.training.tasks.soundstorm import SoundStormTask
    from stages.training.tasks.soundstorm_recipe import SoundStormRecipe

    former = SoundStormRecipe.of(settings.recipe).former
    return SoundStormTask(
        settings,
        store=_store(inputs.train, inputs),
        valid=None if inputs.valid is None else _store(inputs.valid, inputs),
        former=_former(former, _store, inputs),
        device=inputs.device,
    )


def _audiolm_semantic(settings: TrainingSettings, inputs: TaskInputs) -> Task[Any]:
    from stages.training.tasks.audiolm import SemanticTask
    from stages.training.tasks.audiolm_recipe import AudioLMRecipe

    former = AudioLMRecipe.of(settings.recipe).former
    return SemanticTask(
        settings,
        store=_semantic_store(inputs.train, inputs),
        valid=None if inputs.valid is None else _semantic_store(inputs.valid, inputs),
        former=_former(former, _semantic_store, inputs),
        device=inputs.device,
    )


def _audiolm_acoustic(settings: TrainingSettings, inputs: TaskInputs) -> Task[Any]:
    from stages.training.tasks.audiolm import AcousticTask
    from stages.training.tasks.audiolm_recipe import AudioLMRecipe

    former = AudioLMRecipe.of(settings.recipe).former
    return AcousticTask(
        settings,
        store=_store(inputs.train, inputs),
        valid=None if inputs.valid is None else _store(inputs.valid, inputs),
        former=_former(former, _store, inputs),
        device=inputs.device,
    )


def _former(
    where: str, store: Callable[[RowSource, TaskInputs], Store], inputs: TaskInputs
) -> Store | None:
    """The set that `recipe.former` names, if it names one."""
    from stages.shards.reader import open_rows

    return store(open_rows(where), inputs) if where else None


def _store(source: RowSource, inputs: TaskInputs) -> TokenStore:
    from stages.training.token_store import build_store

    return _spooled(build_store, source, inputs, "")


def _semantic_store(source: RowSource, inputs: TaskInputs) -> SemanticStore:
    from stages.training.semantic_store import build_semantic_store

    return _spooled(build_semantic_store, source, inputs, "-semantic")


def _spooled(build: Callable[..., Store], source: RowSource, inputs: TaskInputs, end: str) -> Store:
    """The first process spools the tokens, the others wait and map the same files."""
    from stages.training.token_store import fingerprint_of

    fingerprint = fingerprint_of(source)
    folder = inputs.run / CACHE_NAME / f"{fingerprint[:16]}{end}"
    return _first_alone(
        partial(build, source, folder, fingerprint=fingerprint, warn=inputs.warn), inputs
    )


def _first_alone(build: Callable[[], Store], inputs: TaskInputs) -> Store:
    """What the first process builds while the others wait, who then find it built."""
    if inputs.processes.is_first:
        store = build()
        inputs.processes.wait()
        return store
    inputs.processes.wait()
    return build()


def _speech(inputs: TaskInputs, *, labelled: bool = False) -> dict[str, Any]:
    """What the tasks on audio take."""
    from stages.training.speech import find_speech

    def find(source: RowSource) -> SpeechSet:
        return find_speech(source, inputs.warn, labelled=labelled)

    return {
        "speech": find(inputs.train),
        "valid": None if inputs.valid is None else find(inputs.valid),
        "device": inputs.device,
        "warn": inputs.warn,
    }


def _codec(settings: TrainingSettings, inputs: TaskInputs) -> Task[Any]:
    from stages.training.tasks.codec import CodecTask

    return CodecTask(settings, **_speech(inputs))


def _vocoder(settings: TrainingSettings, inputs: TaskInputs) -> Task[Any]:
    from stages.training.tasks.vocoder import VocoderTask

    return VocoderTask(settings, **_speech(inputs))


def _source_filter(settings: TrainingSettings, inputs: TaskInputs) -> Task[Any]:
    from stages.training.tasks.source_filter import SourceFilterTask, source_filter_config

    config = source_filter_config(settings)
    return SourceFilterTask(settings, **_with_pitch(_speech(inputs), config, inputs))


def _with_pitch(
    speech: dict[str, Any], config: SourceFilterConfig, inputs: TaskInputs
) -> dict[str, Any]:
    """The sets with the pitch of their recordings, which the first process tracks."""
    from stages.codec.mel.pitch import POINTS
    from stages.shards.provenance import hash_json
    from stages.training.pitch_store import build_pitch_store

    tracked: dict[str, Any] = {
        "sample_rate": config.sample_rate,
        "hop": config.hop // POINTS,
        "lowest": config.lowest,
        "highest": config.highest,
    }

    def find(some: SpeechSet) -> SpeechSet:
        name = hash_json([some.fingerprint, some.paths, tracked])[:16]
        folder = inputs.run / CACHE_NAME / f"{name}-pitch"
        build = partial(
            build_pitch_store, some.paths, folder, **tracked, workers=inputs.workers,
            warn=inputs.warn,
        )  # fmt: skip
        return replace(some, pitch=_first_alone(build, inputs))

    return {**speech, "speech": find(speech["speech"]),
            "valid": None if speech["valid"] is None else find(speech["valid"])}  # fmt: skip


def _best_rq(settings: TrainingSettings, inputs: TaskInputs) -> Task[Any]:
    from stages.training.tasks.best_rq import BestRQTask

    return BestRQTask(settings, **_speech(inputs))


def _student(settings: TrainingSettings, inputs: TaskInputs) -> Task[Any]:
    from stages.training.tasks.student import StudentTask

    return StudentTask(settings, **_speech(inputs, labelled=True))


def _bottleneck(settings: TrainingSettings, inputs: TaskInputs) -> Task[Any]:
    from stages.training.tasks.bottleneck import BottleneckTask

    return BottleneckTask(settings, **_speech(inputs))


def _unit_to_mel(settings: TrainingSettings, inputs: TaskInputs) -> Task[Any]:
    from stages.training.tasks.unit_to_mel import UnitToMelTask

    return UnitToMelTask(settings, **_speech(inputs))


def _refiner(settings: TrainingSettings, inputs: TaskInputs) -> Task[Any]:
    from stages.training.tasks.refiner import RefinerTask

    return RefinerTask(settings, **_speech(inputs))


def _consistency(settings: TrainingSettings, inputs: TaskInputs) -> Task[Any]:
    from stages.training.tasks.consistency import ConsistencyTask

    return ConsistencyTask(settings, world=inputs.processes.world, **_speech(inputs))


MODELS: dict[str, Callable[[TrainingSettings, TaskInputs], Task[Any]]] = {
    "soundstorm": _soundstorm,
    "codec": _codec,
    "vocoder": _vocoder,
    "source-filter": _source_filter,
    "best-rq": _best_rq,
    "student": _student,
    "bottleneck": _bottleneck,
    "unit-to-mel": _unit_to_mel,
    "refiner": _refiner,
    "consistency": _consistency,
    "audiolm-semantic": _audiolm_semantic,
    "audiolm-coarse": _audiolm_acoustic,
    "audiolm-fine": _audiolm_acoustic,
}

AUDIOLM = ("audiolm-semantic", "audiolm-coarse", "audiolm-fine")
ON_TOKENS = ("soundstorm", *AUDIOLM)
"""Learn from token shards alone, which are so quick to read that no worker is needed."""

WITH_RECIPE = (
    "soundstorm", "student", "bottleneck", "vocoder", "source-filter", "unit-to-mel", "refiner",
    "consistency", *AUDIOLM,
)  # fmt: skip


def build_task(settings: TrainingSettings, inputs: TaskInputs) -> Task[Any]:
    """The task of `settings.model`.

    Raises:
        DataMismatch: if there is no such model, or its inputs do not fit it.
    """
    if settings.model not in MODELS:
        raise DataMismatch(f"there is no model {settings.model}; there are {', '.join(MODELS)}")
    if settings.recipe and settings.model not in WITH_RECIPE:
        raise DataMismatch(f"{settings.model} has no recipe: only {', '.join(WITH_RECIPE)} have")
    return MODELS[settings.model](settings, inputs)
