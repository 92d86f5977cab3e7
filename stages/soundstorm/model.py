"""A trained SoundStorm and the tokens it speaks, to and from a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.errors import DataMismatch
from stages.nn.compiled import compile_conformer
from stages.nn.model_file import load_model_file, network_with, save_model_file
from stages.nn.precision import FLOAT32, check_precision, to_precision
from stages.shards.spec import TokenSpec
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.network import SoundStorm

KIND = "soundstorm"


@dataclass(frozen=True, kw_only=True)
class SoundStormModel:
    """A network with the identity of its tokens."""

    network: SoundStorm

    semantic: TokenSpec
    """The semantic tokens it was trained on."""

    acoustic: TokenSpec
    """The acoustic tokens it was trained on; it makes the first `network.config.levels` levels."""

    fingerprint: str
    """SHA-256 hex of configuration and weights."""

    precision: str = FLOAT32
    """Of the network's arithmetic, one of `stages.nn.precision.PRECISIONS`."""

    compiled: bool = False
    """Whether the Conformer's passes are compiled."""

    @property
    def levels(self) -> int:
        """Q, the levels that it makes."""
        return self.network.config.levels


def to_model_file(
    folder: Path,
    *,
    config: SoundStormConfig,
    weights: Mapping[str, Tensor],
    semantic: TokenSpec,
    acoustic: TokenSpec,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder from a network's `state_dict` (or its average)."""
    check_tokens(config, semantic, acoustic)
    save_model_file(
        folder,
        kind=KIND,
        config=config.to_json(),
        weights=weights,
        tokens={"semantic": semantic.to_json(), "acoustic": acoustic.to_json()},
        extra=extra,
    )


def from_model_file(
    folder: Path, device: torch.device, *, precision: str = FLOAT32, compiled: bool = False
) -> SoundStormModel:
    """Read a model folder; the network comes in evaluation mode.

    Args:
        folder: of the model.
        device: where the network is put.
        precision: of its arithmetic (`stages.nn.precision`).
        compiled: compile the Conformer's passes (`stages.nn.compiled`).

    Raises:
        DataMismatch: if the folder holds no SoundStorm, or its parts contradict each other, or the
            device does not know the precision or cannot compile it.
    """
    check_precision(precision, device)
    file = load_model_file(folder, kind=KIND)
    config = SoundStormConfig.from_json(file.config, where=str(folder))
    if not {"semantic", "acoustic"} <= file.tokens.keys():
        raise DataMismatch(f"{folder} does not say which tokens its model was trained on")
    semantic = TokenSpec.from_json(file.tokens["semantic"])
    acoustic = TokenSpec.from_json(file.tokens["acoustic"])
    check_tokens(config, semantic, acoustic)
    where = torch.device("cpu") if precision != FLOAT32 else device  # smaller before it is moved
    network = network_with(lambda: SoundStorm(config), file.weights, folder, where)
    network = to_precision(network, precision, device)
    if compiled:
        compile_conformer(network, device)
    return SoundStormModel(
        network=network,
        semantic=semantic,
        acoustic=acoustic,
        fingerprint=file.fingerprint,
        precision=precision,
        compiled=compiled,
    )


def check_tokens(config: SoundStormConfig, semantic: TokenSpec, acoustic: TokenSpec) -> None:
    """Refuse a configuration that does not fit its tokens."""
    for what, needed, given in (
        ("semantic codebook", config.semantic_codebook_size, semantic.codebook_size),
        ("acoustic codebook", config.codebook_size, acoustic.codebook_size),
    ):
        if needed != given:
            raise DataMismatch(
                f"the model has a {what} of {needed} entries while its tokens have {given}"
            )
    if config.levels > acoustic.levels:
        raise DataMismatch(
            f"the model has {config.levels} levels while its acoustic tokens have {acoustic.levels}"
        )
