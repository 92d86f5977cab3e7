"""Folders of consistency models; they hold the encoder's layers, so they need nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.consistency.config import ConsistencyConfig
from stages.consistency.network import ConsistencyNetwork
from stages.nn.model_file import ModelFile, load_model_file, load_weights, save_model_file

KIND = "consistency"


def save_consistency(
    folder: Path,
    *,
    config: ConsistencyConfig,
    weights: Mapping[str, Tensor],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder of kind `consistency` from a network's `state_dict` (or its average)."""
    save_model_file(folder, kind=KIND, config=config.to_json(), weights=weights, extra=extra)


def load_consistency(
    folder: Path, device: torch.device | str = "cpu"
) -> tuple[ConsistencyNetwork, ModelFile]:
    """Read a model folder of kind `consistency`, for use alone: in evaluation mode, frozen.

    Raises:
        DataMismatch: if it is none, or its weights do not fit its configuration.
    """
    file = load_model_file(folder, kind=KIND)
    network = ConsistencyNetwork(ConsistencyConfig.from_json(file.config, where=str(folder)))
    load_weights(network, file.weights, folder)
    return network.to(device).eval().requires_grad_(False), file
