"""Training AudioLM's stages on token shards: next-token prediction (Borsos et al., 2023)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.audiolm.config import (
    COARSE_LEVELS,
    CoarseConfig,
    FineConfig,
    SemanticConfig,
    StageConfig,
)
from stages.audiolm.loss import GroupSums, sequence_loss
from stages.audiolm.model import (
    Tokens,
    check_tokens,
    from_model_file,
    to_model_file,
)
from stages.audiolm.network import StageNetwork
from stages.audiolm.sequences import (
    SequenceBatch,
    TokenSequence,
    batch_sequences,
    coarse_sequence,
    fine_sequence,
    semantic_sequence,
)
from stages.audiolm.warm_start import carry_stage
from stages.errors import DataMismatch
from stages.training.seeds import derive_seed
from stages.training.semantic_store import SemanticStore
from stages.training.settings import TrainingSettings
from stages.training.task import MODEL, StepOutput, Task
from stages.training.tasks.audiolm_recipe import AudioLMRecipe
from stages.training.tasks.former_tokens import same_frames
from stages.training.tasks.same_network import require_same_network
from stages.training.tasks.token_models import centroid_dim
from stages.training.token_store import TokenStore
from stages.training.windows import Window, WindowSampler, share

VALIDATION_SECONDS = 30
"""Longer utterances are validated on their first half minute, as SoundStorm's are."""


Store = TypeVar("Store", bound=TokenStore | SemanticStore)
"""What windows are drawn from."""


class SequenceWindows(Generic[Store]):
    """The training batches of each step: random windows, each a sequence."""

    def __init__(
        self,
        store: Store,
        settings: TrainingSettings,
        config: StageConfig,
        rate: Fraction,
        sequence: Callable[[Store, Window], TokenSequence],
    ) -> None:
        self._store, self._config, self._sequence = store, config, sequence
        self._budget = max(1, int(settings.micro_batch_seconds * rate))
        self._sampler = WindowSampler(
            store.lengths,
            store.speakers,
            units_per_second=float(rate),  # only bounds windows: nothing is mapped by it
            batch_size=settings.batch_size,
            seed=settings.seed,
            settings=settings.data,
        )

    def micro_batches(self, step: int, rank: int, world: int) -> list[SequenceBatch]:
        parts = share(self._sampler.windows(step), rank=rank, world=world, budget=self._budget)
        return [
            batch_sequences(self._config, [self._sequence(self._store, window) for window in part])
            for part in parts
        ]


class AudioLMTask(Task[SequenceBatch], Generic[Store]):
    """Next-token prediction of one stage."""

    def __init__(
        self,
        settings: TrainingSettings,
        config: StageConfig,
        tokens: Tokens,
        *,
        store: Store,
        valid: Store | None,
        device: torch.device,
        former: Store | None = None,
    ) -> None:
        """Build the network and its data; `former` is as `SoundStormTask` has it.

        Raises:
            DataMismatch: if configuration, tokens, recipe and windows do not fit.
        """
        self.settings, self.device, self.config = settings, device, config
        self.tokens, self.store, self.valid, self.former = tokens, store, valid, former
        recipe = AudioLMRecipe.of(settings.recipe)
        check_tokens(config, tokens)
        config.chunk_frames(self.rate)
        if settings.data.max_seconds > config.chunk_seconds:
            raise DataMismatch(
                f"data.max_seconds is {settings.data.max_seconds:g} and a chunk of {config.kind} "
                f"{config.chunk_seconds:g}: lower the one or raise network.chunk_seconds"
            )
        torch.manual_seed(derive_seed(settings.seed, "weights"))
        network = StageNetwork(config)
        recipe.start(network, tokens, seed=derive_seed(settings.seed, "embeddings"))
        self.network = network.to(device)
        self.players = {MODEL: self.network}
        self.data = SequenceWindows(store, settings, config, self.rate, self.sequence)
        self.data_fingerprint = store.fingerprint

    @property
    @abstractmethod
    def rate(self) -> Fraction:
        """Hz of the units that windows are counted in."""

    @property
    @abstractmethod
    def sequence(self) -> Callable[[Store, Window], TokenSequence]:
        """Makes a window's sequence; a worker process can take it along."""

    @property
    def first_level(self) -> int | None:
        """The 1-based level of the first codebook that is generated; None where it has none."""
        return None

    def loss(self, player: str, batch: SequenceBatch, step: int) -> StepOutput:
        del player, step
        sums = sequence_loss(self.network, batch)
        loss, tokens, correct = sums.loss.detach(), sums.tokens.float(), sums.correct.float()
        parts = {"accuracy": torch.stack((correct.sum(), tokens.sum()))}
        if self.first_level is not None:
            for group in range(self.config.groups):
                name = f"loss/level_{self.first_level + group:02d}"
                parts[name] = torch.stack((loss[group], tokens[group]))
        return StepOutput(loss=sums.loss.sum(), weight=sums.tokens.sum(), parts=parts)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss in nats a token and accuracy, for acoustic stages by level, too.

        Utterances are cut into chunks one after the other, without overlap, so that every token of
        their first `VALIDATION_SECONDS` counts once.
        """
        if self.valid is None:
            return {}
        assert isinstance(model, StageNetwork)
        chunk, _ = self.config.chunk_frames(self.rate)
        longest = int(VALIDATION_SECONDS * self.rate)
        lengths = np.minimum(self.valid.lengths[: self.settings.valid_examples], longest)
        windows = [
            Window(example=example, start=start, length=min(chunk, length - start), seed=0)
            for example, length in enumerate(lengths.tolist())
            for start in range(0, length, chunk)
        ]
        budget = max(1, int(self.settings.micro_batch_seconds * self.rate))
        totals = torch.zeros(3, self.config.groups, dtype=torch.float64)
        for part in share(windows, rank=0, world=1, budget=budget):
            sequences = [self.sequence(self.valid, window) for window in part]
            totals += _table(sequence_loss(model, batch_sequences(self.config, sequences)))
        return self._summary(totals)

    def _summary(self, totals: Tensor) -> dict[str, float]:
        """From `[3, G]` sums: loss, tokens, correct."""
        names: dict[str, Tensor] = {"": totals.sum(dim=1)}
        if self.first_level is not None:
            names |= {
                f"/level_{self.first_level + group:02d}": totals[:, group]
                for group in range(self.config.groups)
            }
        summary: dict[str, float] = {}
        for name, sums in names.items():
            loss, tokens, correct = sums.tolist()
            summary[f"loss{name}"] = loss / max(1, tokens)
            summary[f"accuracy{name}"] = correct / max(1, tokens)
        return summary

    def initialise(self, folder: Path) -> None:
        model = from_model_file(folder, type(self.config), torch.device("cpu"))
        apart = ("semantic_codebook_size", "centroid_dim") if self.former else ()
        require_same_network(model.config, self.config, folder=folder, apart=apart)
        for kind, spec in model.tokens.items():
            if kind != "semantic" or self.former is None:
                spec.require_same(self.tokens[kind], ours=str(folder), theirs="the training set")
        if self.former is None:
            self.network.load_state_dict(model.network.state_dict())
            return
        tokens = same_frames(self.former, self.store, model.tokens["semantic"], folder=folder)
        carry_stage(self.network, model.network, *tokens)

    def export(self, folder: Path, weights: Mapping[str, Tensor], extra: dict[str, Any]) -> None:
        to_model_file(folder, config=self.config, weights=weights, tokens=self.tokens, extra=extra)


def _table(sums: GroupSums) -> Tensor:
    """`[3, G]` float64 on the CPU."""
    return torch.stack((sums.loss.double(), sums.tokens.double(), sums.correct.double())).cpu()


class SemanticTask(AudioLMTask[SemanticStore]):
    """Stage one, on semantic tokens at their own rate."""

    def __init__(
        self,
        settings: TrainingSettings,
        *,
        store: SemanticStore,
        valid: SemanticStore | None,
        device: torch.device,
        former: SemanticStore | None = None,
    ) -> None:
        if valid is not None:
            store.spec.require_same(
                valid.spec, ours="the training set", theirs="the validation set"
            )
        size = {
            "semantic_codebook_size": store.spec.codebook_size,
            "centroid_dim": centroid_dim(settings, store.spec),
        }
        super().__init__(
            settings,
            SemanticConfig.from_json({**size, **settings.network}, where="the settings' network"),
            {"semantic": store.spec},
            store=store,
            valid=valid,
            device=device,
            former=former,
        )

    @property
    def rate(self) -> Fraction:
        return self.tokens["semantic"].frame_rate

    @property
    def sequence(self) -> Callable[[SemanticStore, Window], TokenSequence]:
        assert isinstance(self.config, SemanticConfig)
        return partial(_semantic_window, self.config)


class AcousticTask(AudioLMTask[TokenStore]):
    """Stages two and three, on aligned tokens at the acoustic rate."""

    def __init__(
        self,
        settings: TrainingSettings,
        *,
        store: TokenStore,
        valid: TokenStore | None,
        device: torch.device,
        former: TokenStore | None = None,
    ) -> None:
        semantic, acoustic = store.semantic_spec, store.acoustic_spec
        where = "the settings' network"
        config: CoarseConfig | FineConfig
        if settings.model == "audiolm-coarse":
            sizes = {
                "semantic_codebook_size": semantic.codebook_size,
                "centroid_dim": centroid_dim(settings, semantic),
                "codebook_size": acoustic.codebook_size,
                "levels": min(COARSE_LEVELS, acoustic.levels),
            }
            config = CoarseConfig.from_json({**sizes, **settings.network}, where=where)
        else:
            sizes = {"codebook_size": acoustic.codebook_size, "levels": acoustic.levels}
            config = FineConfig.from_json({**sizes, **settings.network}, where=where)
        if valid is not None:
            store.require_valid(valid, levels=config.levels)
        super().__init__(
            settings,
            config,
            {"semantic": semantic, "acoustic": acoustic},
            store=store,
            valid=valid,
            device=device,
            former=former,
        )

    @property
    def rate(self) -> Fraction:
        return self.tokens["acoustic"].frame_rate

    @property
    def first_level(self) -> int:
        return 1 + self.config.coarse_levels if isinstance(self.config, FineConfig) else 1

    @property
    def sequence(self) -> Callable[[TokenStore, Window], TokenSequence]:
        if isinstance(self.config, CoarseConfig):
            return partial(_coarse_window, self.config)
        assert isinstance(self.config, FineConfig)
        return partial(_fine_window, self.config)


def _semantic_window(config: SemanticConfig, store: SemanticStore, window: Window) -> TokenSequence:
    tokens = store.slice(window.example, window.start, window.length)
    return semantic_sequence(
        config,
        _tensor(tokens),
        from_start=window.start == 0,
        to_end=window.start + window.length == int(store.lengths[window.example]),
    )


def _coarse_window(config: CoarseConfig, store: TokenStore, window: Window) -> TokenSequence:
    semantic, acoustic = store.slice(window.example, window.start, window.length)
    return coarse_sequence(config, _tensor(semantic), _tensor(acoustic[:, : config.levels]))


def _fine_window(config: FineConfig, store: TokenStore, window: Window) -> TokenSequence:
    _, acoustic = store.slice(window.example, window.start, window.length)
    codes = _tensor(acoustic)
    first = config.coarse_levels
    return fine_sequence(config, codes[:, :first], codes[:, first : config.levels])


def _tensor(tokens: NDArray[np.uint16]) -> Tensor:
    return torch.from_numpy(np.asarray(tokens, dtype=np.int64))
