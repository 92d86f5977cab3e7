"""AudioLM's trained stages and the tokens they speak, to and from model folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from stages.audiolm.config import CoarseConfig, FineConfig, SemanticConfig, StageConfig
from stages.audiolm.network import StageNetwork
from stages.errors import DataMismatch
from stages.nn.model_file import load_model_file, network_with, save_model_file
from stages.shards.spec import TokenKind, TokenSpec

Config = TypeVar("Config", bound=StageConfig)
Tokens = Mapping[TokenKind, TokenSpec]


@dataclass(frozen=True, kw_only=True)
class StageModel(Generic[Config]):
    """One stage's network with the identity of its tokens."""

    network: StageNetwork

    config: Config

    tokens: Tokens
    """What it was trained on: `semantic`, `acoustic` or both, as the stage needs."""

    fingerprint: str
    """SHA-256 hex of configuration and weights."""


def token_kinds(config: StageConfig) -> tuple[TokenKind, ...]:
    """The kinds of tokens that a stage reads or makes."""
    if isinstance(config, SemanticConfig):
        return ("semantic",)
    return ("semantic", "acoustic") if isinstance(config, CoarseConfig) else ("acoustic",)


def to_model_file(
    folder: Path,
    *,
    config: StageConfig,
    weights: Mapping[str, Tensor],
    tokens: Tokens,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder from a network's `state_dict` (or its average)."""
    check_tokens(config, tokens)
    save_model_file(
        folder,
        kind=config.kind,
        config=config.to_json(),
        weights=weights,
        tokens={kind: tokens[kind].to_json() for kind in token_kinds(config)},
        extra=extra,
    )


def from_model_file(folder: Path, stage: type[Config], device: torch.device) -> StageModel[Config]:
    """Read a model folder; the network comes in evaluation mode.

    Args:
        folder: of the model.
        stage: the configuration class of the stage that is needed.
        device: where the network is put.

    Raises:
        DataMismatch: if the folder holds no model of this stage, or its parts contradict each
            other.
    """
    file = load_model_file(folder, kind=f"audiolm-{stage.stage}")
    config = stage.from_json(file.config, where=str(folder))
    tokens: dict[TokenKind, TokenSpec] = {}
    for kind in token_kinds(config):
        if kind not in file.tokens:
            raise DataMismatch(f"{folder} does not say which {kind} tokens it was trained on")
        tokens[kind] = TokenSpec.from_json(file.tokens[kind])
    check_tokens(config, tokens)
    network = network_with(lambda: StageNetwork(config), file.weights, folder, device)
    network.fix()
    return StageModel(
        network=network,
        config=config,
        tokens=tokens,
        fingerprint=file.fingerprint,
    )


def check_tokens(config: StageConfig, tokens: Tokens) -> None:
    """Refuse a configuration that does not fit its tokens."""
    sizes: dict[TokenKind, int] = {}
    if isinstance(config, (SemanticConfig, CoarseConfig)):
        sizes["semantic"] = config.semantic_codebook_size
    if isinstance(config, (CoarseConfig, FineConfig)):
        sizes["acoustic"] = config.codebook_size
        if config.levels > tokens["acoustic"].levels:
            raise DataMismatch(
                f"the model has {config.levels} levels while its acoustic tokens have "
                f"{tokens['acoustic'].levels}"
            )
    for kind, size in sizes.items():
        if size != tokens[kind].codebook_size:
            raise DataMismatch(
                f"the model has a {kind} codebook of {size} entries while its tokens have "
                f"{tokens[kind].codebook_size}"
            )


@dataclass(frozen=True, kw_only=True)
class AcousticModel:
    """The coarse stage, and perhaps the fine one: from semantic tokens to acoustic tokens."""

    coarse: StageModel[CoarseConfig]

    fine: StageModel[FineConfig] | None = None
    """Without it there are coarse levels only."""

    @property
    def semantic(self) -> TokenSpec:
        return self.coarse.tokens["semantic"]

    @property
    def acoustic(self) -> TokenSpec:
        return self.coarse.tokens["acoustic"]

    @property
    def levels(self) -> int:
        """Q, all the levels it makes."""
        return self.coarse.config.levels if self.fine is None else self.fine.config.levels

    @property
    def codebook_size(self) -> int:
        return self.coarse.config.codebook_size

    @property
    def semantic_codebook_size(self) -> int:
        return self.coarse.config.semantic_codebook_size


def join_stages(
    coarse: StageModel[CoarseConfig],
    fine: StageModel[FineConfig] | None,
    *,
    coarse_where: str,
    fine_where: str,
) -> AcousticModel:
    """Put two stages together.

    Raises:
        DataMismatch: if they were trained on other tokens, or one does not go on where the other
            ends.
    """
    if fine is not None:
        coarse.tokens["acoustic"].require_same(
            fine.tokens["acoustic"], ours=coarse_where, theirs=fine_where
        )
        if fine.config.coarse_levels != coarse.config.levels:
            raise DataMismatch(
                f"{fine_where} goes on from {fine.config.coarse_levels} coarse levels while "
                f"{coarse_where} makes {coarse.config.levels}"
            )
    return AcousticModel(coarse=coarse, fine=fine)
