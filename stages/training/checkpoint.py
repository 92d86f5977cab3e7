"""Checkpoints: folders of safetensors and JSON that appear whole, of which the last two stay."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from stages.errors import DataMismatch, StageFailure
from stages.nn.model_file import write_tensors
from stages.shards.provenance import hash_file

FORMAT_VERSION = 1
KEPT = 2
STATE_NAME = "state.json"
TENSORS_NAME = "tensors.safetensors"
UNFINISHED = ".tmp"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A run between two steps."""

    step: int
    """Updates made."""

    settings: dict[str, Any]
    """`TrainingSettings.to_json()`."""

    data_fingerprint: str

    seconds: float
    """Spent in training so far, over all invocations."""

    origin: str | None = ""
    """Fingerprint of the model whose weights the run started from, empty where it started from
    none; None in a checkpoint that was written before this was kept."""

    tensors: dict[str, Tensor]
    """`model/...`, `average/...`, `optimiser/...`, `task/...`."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint to `folder/step-00001000` and remove all but the last two.

    Everything goes to a `.tmp` folder first, is synced, and gets its name last. What a killed run
    left half-written goes, too.

    Raises:
        StageFailure: if it cannot be written; older checkpoints are then untouched.
    """
    target = folder / f"step-{checkpoint.step:08d}"
    temporary = target.with_name(target.name + UNFINISHED)
    for left in folder.glob(f"step-*{UNFINISHED}"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        tensors = {
            name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()
        }
        write_tensors(temporary / TENSORS_NAME, tensors)
        state = {
            "format_version": FORMAT_VERSION,
            "step": checkpoint.step,
            "settings": checkpoint.settings,
            "data": checkpoint.data_fingerprint,
            "seconds": checkpoint.seconds,
            "origin": checkpoint.origin,
            "sha256": hash_file(temporary / TENSORS_NAME),
        }
        (temporary / STATE_NAME).write_text(json.dumps(state, indent=2, sort_keys=True) + "\n")
        for path in (temporary / TENSORS_NAME, temporary / STATE_NAME, temporary):
            _sync(path)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        raise StageFailure(f"the checkpoint {target} cannot be written ({error})") from error
    for old in _finished(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_checkpoint(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """Read the last whole checkpoint, on the CPU; None where there is none.

    A damaged one is passed over, with a warning, for the one before it.

    Raises:
        DataMismatch: if there are checkpoints but none can be read.
    """
    finished = _finished(folder)
    for path in reversed(finished):
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            warn(f"the checkpoint {path} is damaged ({reason}): trying the one before it")
    if finished:
        raise DataMismatch(f"no checkpoint in {folder} can be read: remove it to start afresh")
    return None


def has_checkpoint(folder: Path) -> bool:
    """Whether a checkpoint is there, be it damaged; half-written ones are none."""
    return bool(_finished(folder))


def _finished(folder: Path) -> list[Path]:
    found = (p for p in folder.glob("step-*") if p.is_dir() and p.suffix != UNFINISHED)
    return sorted(found)


def _read(path: Path) -> Checkpoint:
    state = json.loads((path / STATE_NAME).read_text())
    if state["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format version {state['format_version']}, not {FORMAT_VERSION}")
    if hash_file(path / TENSORS_NAME) != state["sha256"]:
        raise ValueError(f"{TENSORS_NAME} does not have the SHA-256 it was written with")
    return Checkpoint(
        step=int(state["step"]),
        settings=dict(state["settings"]),
        data_fingerprint=str(state["data"]),
        seconds=float(state["seconds"]),
        origin=state.get("origin"),
        tensors=load_file(str(path / TENSORS_NAME)),
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def optimiser_tensors(optimiser: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """An optimiser's state by parameter name: `blocks.0.weight/exp_avg`, `.../step`."""
    return {
        f"{name}/{key}": torch.as_tensor(value).clone()
        for name, parameter in module.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def load_optimiser_tensors(
    optimiser: torch.optim.Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Take back what `optimiser_tensors` gave."""
    parameters = dict(module.named_parameters())
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition("/")
        parameter = parameters[name]
        # Adam counts steps on the CPU unless it is fused on a GPU, where the count is there too.
        on_device = key != "step" or bool(optimiser.defaults.get("fused"))
        optimiser.state[parameter][key] = value.to(parameter.device if on_device else "cpu")


def take(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
