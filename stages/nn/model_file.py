"""Model folders: `config.json` beside `model.safetensors`. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from stages.errors import DataMismatch, StageFailure
from stages.nn.saved_weights import as_loaded

FORMAT_VERSION = 1
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """What a model folder holds, before any network is built from it."""

    kind: str
    """`soundstorm`, `codec`, `vocoder`, `best-rq`, ..."""

    config: dict[str, Any]
    """The network's configuration, ready for its config class."""

    tokens: dict[str, Any] = field(default_factory=dict)
    """What it speaks: `TokenSpec.to_json()` under `semantic` and `acoustic`, where they apply."""

    extra: dict[str, Any] = field(default_factory=dict)
    """Where it came from: preset, steps, settings of its training."""

    weights: dict[str, Tensor] = field(default_factory=dict)

    fingerprint: str = ""
    """SHA-256 hex of the kind, the configuration and the weights' file."""


def require_no_model(folder: Path) -> None:
    """Refuse a folder that is to be written and holds a model already.

    Raises:
        DataMismatch: if it does.
    """
    if (folder / CONFIG_NAME).exists():
        raise DataMismatch(f"{folder} holds a model already: give another -o")


def save_model_file(
    folder: Path,
    *,
    kind: str,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    tokens: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder; each file appears whole or not at all (`.tmp`, then rename).

    The weights go first, so a folder with a `config.json` is a folder with weights.

    Raises:
        StageFailure: if the folder cannot be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    document = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "config": dict(config),
        "tokens": dict(tokens or {}),
        "extra": dict(extra or {}),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / (WEIGHTS_NAME + ".tmp")
        write_tensors(temporary, tensors)
        temporary.replace(folder / WEIGHTS_NAME)
        temporary = folder / (CONFIG_NAME + ".tmp")
        temporary.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
        temporary.replace(folder / CONFIG_NAME)
    except (OSError, SafetensorError) as error:
        raise StageFailure(f"the model {folder} cannot be written ({error})") from error


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file that others may read as any file made here: the library's own
    is for its owner alone.

    Raises:
        OSError, SafetensorError: if it cannot be written.
    """
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, str(path))
    path.chmod(mode)


def load_model_file(folder: Path, *, kind: str | None = None) -> ModelFile:
    """Read a model folder, weights on the CPU, those saved in fewer bits as float32.

    Raises:
        DataMismatch: if it is no model folder, of another `kind`, of a newer format, or damaged.
    """
    document = read_model_config(folder, kind=kind)
    weights_path = folder / WEIGHTS_NAME
    try:
        weights = load_file(str(weights_path))
    except FileNotFoundError:
        raise DataMismatch(f"{folder} has no {WEIGHTS_NAME}: its model was never saved") from None
    except (SafetensorError, OSError) as error:
        raise DataMismatch(f"{weights_path} is damaged ({error}): save or copy it again") from None
    digest = hashlib.sha256()
    digest.update(json.dumps([document["kind"], document["config"]], sort_keys=True).encode())
    digest.update(weights_path.read_bytes())
    return ModelFile(
        kind=document["kind"],
        config=document["config"],
        tokens=document.get("tokens", {}),
        extra=document.get("extra", {}),
        weights=as_loaded(weights),
        fingerprint=digest.hexdigest(),
    )


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Put a folder's weights into a network that its configuration made.

    Raises:
        DataMismatch: if they do not fit.
    """
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError:
        raise DataMismatch(
            f"the weights in {folder} do not fit its config.json: save or copy the model again"
        ) from None


class _Unfilled(TorchFunctionMode):
    """Random starts are left out. On the meta device they would fill nothing, by way of torch's
    Python references, whose first use imports torch's compiler: about a second together."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        given = kwargs or {}
        if func in _RANDOM_FILLS:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


_RANDOM_FILLS = (
    nn.init.normal_,
    nn.init.uniform_,
    nn.init.kaiming_uniform_,
    Tensor.normal_,
    Tensor.uniform_,
)


def network_with(
    build: Callable[[], Network], weights: Mapping[str, Tensor], folder: Path, device: torch.device
) -> Network:
    """A network with a folder's weights, for use alone: in evaluation mode, without gradients.

    Args:
        build: makes it; all its buffers must be among the weights.
        weights: of a `ModelFile`.
        folder: theirs, for messages.
        device: where it is put.

    Raises:
        DataMismatch: if they are not the weights of such a network.
    """
    with torch.device("meta"), _Unfilled():  # no time for weights that are replaced at once
        network = build()
    try:
        network.load_state_dict(dict(weights), assign=True)
    except RuntimeError:
        raise DataMismatch(f"the weights in {folder} are not those of its config.json") from None
    return network.to(device).eval().requires_grad_(False)


def read_model_config(folder: Path, *, kind: str | None = None) -> dict[str, Any]:
    """Read and check a model folder's `config.json` alone, without its weights."""
    path = folder / CONFIG_NAME
    try:
        document = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise DataMismatch(
            f"{folder} is no model: it has no {CONFIG_NAME} (a folder that `train -o` wrote has)"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise DataMismatch(f"{path} is not JSON: save or copy the model again") from None
    except OSError as error:
        raise DataMismatch(
            f"{path} is no file that can be read ({error.strerror or error}): save or copy the "
            "model again"
        ) from None
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise DataMismatch(f"{path} does not say which kind of model it is")
    if document.get("format_version") != FORMAT_VERSION:
        raise DataMismatch(
            f"{path} has format version {document.get('format_version')}; this soundstorm reads "
            f"version {FORMAT_VERSION}"
        )
    tables = (document.get("config"), document.get("tokens", {}), document.get("extra", {}))
    if not all(isinstance(table, dict) for table in tables):
        raise DataMismatch(f"{path} has no config, tokens and extra that are tables each")
    if kind is not None and document["kind"] != kind:
        raise DataMismatch(f"{folder} holds a {document['kind']} model where a {kind} is needed")
    return document
