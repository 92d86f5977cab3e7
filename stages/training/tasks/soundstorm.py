"""Training SoundStorm on token shards (paper, sections 3.2 and 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.errors import DataMismatch
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.loss import LossTable, masked_loss
from stages.soundstorm.masking import PAPER, Practice, TrainingMask, draw_mask
from stages.soundstorm.model import check_tokens, from_model_file, to_model_file
from stages.soundstorm.network import SoundStorm
from stages.soundstorm.warm_start import carry_semantic, is_condition
from stages.training.seeds import derive_seed
from stages.training.settings import TrainingSettings
from stages.training.task import MODEL, StepOutput, Task
from stages.training.tasks.former_tokens import same_frames
from stages.training.tasks.means import weighted
from stages.training.tasks.same_network import require_same_network
from stages.training.tasks.soundstorm_listening import HeardBatch, HeardWindows, Listening
from stages.training.tasks.soundstorm_recipe import SoundStormRecipe
from stages.training.tasks.token_models import centroid_dim
from stages.training.token_store import TokenStore
from stages.training.windows import Window, WindowSampler, share

VALIDATION_SECONDS = 30
"""Longer utterances are validated on their first half minute, the paper's longest window."""


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """Windows of aligned tokens with their masks, on the CPU."""

    semantic: Tensor
    """`[B, T]` int64, at the acoustic frame rate; void at padding."""

    acoustic: Tensor
    """`[B, T, Q]` int64; 0 at padding."""

    mask: TrainingMask

    heard: HeardBatch | None = None
    """What is to be spoken again and listened to."""


def collate(
    store: TokenStore,
    windows: Sequence[Window],
    levels: int,
    *,
    level_of: Mapping[Window, int] | None = None,
    practice: Practice = PAPER,
) -> TokenBatch:
    """Put windows into one batch and draw each one's mask from its own seed.

    So a window's mask depends neither on its neighbours nor on which process has it.

    Args:
        store: the tokens.
        windows: of like length, for little padding.
        levels: Q, levels that are trained.
        level_of: the masks' levels by window, instead of random ones.
        practice: which masks are drawn more often than the paper's.
    """
    semantic, acoustic, lengths = store.padded(windows, levels)
    masks = []
    masked = torch.zeros(semantic.shape, dtype=torch.bool)
    for row, window in enumerate(windows):
        generator = torch.Generator().manual_seed(window.seed)
        mask = draw_mask(lengths[row : row + 1], levels, generator, practice)
        if level_of is not None:
            mask = replace(mask, level=torch.tensor([level_of[window]]))
        masks.append(mask)
        masked[row, : window.length] = mask.masked[0]
        if torch.rand((), generator=generator) < practice.drop_semantic:
            semantic[row] = store.semantic_spec.codebook_size  # the network's `no_condition`
    return TokenBatch(
        semantic=semantic,
        acoustic=acoustic,
        mask=TrainingMask(
            lengths=lengths,
            delimiter=torch.cat([mask.delimiter for mask in masks]),
            level=torch.cat([mask.level for mask in masks]),
            ratio=torch.cat([mask.ratio for mask in masks]),
            masked=masked,
        ),
    )


class TokenWindows:
    """The training batches of each step."""

    def __init__(
        self,
        store: TokenStore,
        settings: TrainingSettings,
        levels: int,
        practice: Practice,
        heard: HeardWindows | None = None,
    ) -> None:
        self._store, self._levels, self._practice = store, levels, practice
        self._heard = heard
        rate = float(store.acoustic_spec.frame_rate)  # only bounds windows: nothing is mapped by it
        self._budget = max(1, int(settings.micro_batch_seconds * rate))
        self._sampler = WindowSampler(
            store.lengths,
            store.speakers,
            units_per_second=rate,
            batch_size=settings.batch_size,
            seed=settings.seed,
            settings=settings.data,
        )

    def micro_batches(self, step: int, rank: int, world: int) -> list[TokenBatch]:
        parts = share(self._sampler.windows(step), rank=rank, world=world, budget=self._budget)
        practice = self._practice
        batches = [collate(self._store, part, self._levels, practice=practice) for part in parts]
        if self._heard is None:
            return batches
        heard = self._heard.dealt(step, rank, world, len(parts))
        return [replace(batch, heard=part) for batch, part in zip(batches, heard, strict=True)]


class SoundStormTask(Task[TokenBatch]):
    """Masked-token prediction."""

    def __init__(
        self,
        settings: TrainingSettings,
        *,
        store: TokenStore,
        valid: TokenStore | None,
        device: torch.device,
        former: TokenStore | None = None,
    ) -> None:
        """Build the network and its data.

        `former` is the training set with the semantic tokens of the model to `initialise` from,
        where those are others (`SoundStormRecipe.former`).

        Raises:
            DataMismatch: if the settings of the network or the recipe are not those of a
                SoundStorm, or validation tokens or the recipe's models are not of the training
                tokens' kind.
        """
        self.settings, self.device = settings, device
        self.store, self.valid, self.former = store, valid, former
        recipe = SoundStormRecipe.of(settings.recipe)
        if "unconditional" in settings.network:
            raise DataMismatch("network.unconditional follows from recipe.drop_semantic: set that")
        self.config = SoundStormConfig.from_json(
            {
                "levels": store.acoustic_spec.levels,
                "codebook_size": store.acoustic_spec.codebook_size,
                "semantic_codebook_size": store.semantic_spec.codebook_size,
                "unconditional": recipe.drop_semantic > 0,
                "centroid_dim": centroid_dim(settings, store.semantic_spec),
                **settings.network,
            },
            where="the settings' network",
        )
        check_tokens(self.config, store.semantic_spec, store.acoustic_spec)
        if valid is not None:
            store.require_valid(valid, levels=self.config.levels)
        torch.manual_seed(derive_seed(settings.seed, "weights"))
        network = SoundStorm(self.config)
        recipe.start(
            network,
            store.semantic_spec,
            store.acoustic_spec,
            seed=derive_seed(settings.seed, "embeddings"),
        )
        self.network = network.to(device)
        self.players = {MODEL: self.network}
        levels = self.config.levels
        self._listening: Listening | None = None
        windows = None
        if recipe.encoder:
            self._listening = Listening(recipe, device)
            self.settings = settings.with_recipe(encoder_fingerprint=self._listening.fingerprint)
            windows = HeardWindows(store, settings, recipe.heard_utterances, levels)
        self.data = TokenWindows(store, settings, levels, recipe.practice(levels), windows)
        self.data_fingerprint = store.fingerprint

    def loss(self, player: str, batch: TokenBatch, step: int) -> StepOutput:
        del player, step
        sums = masked_loss(
            self.network,
            batch.acoustic.to(self.device, non_blocking=True),
            batch.semantic.to(self.device, non_blocking=True),
            batch.mask,
        )
        Q = self.config.levels
        level = batch.mask.level.to(self.device, non_blocking=True)
        values = torch.stack((sums.loss.detach(), sums.correct.float(), sums.tokens.float()))
        by_level = torch.zeros(3, Q, device=self.device).index_add(1, level, values)
        loss, correct, tokens = by_level
        parts = {"accuracy": torch.stack((correct.sum(), tokens.sum()))}
        for q in range(Q):
            parts[f"loss/level_{q + 1:02d}"] = torch.stack((loss[q], tokens[q]))
        total, weight = sums.loss.sum(), sums.tokens.sum()
        if self._listening is not None and batch.heard is not None:
            heard = self._listening.hear(self.network, batch.heard)
            total = total + weight * self._listening.loss(heard)
            parts |= {name: weighted(mean, count) for name, mean, count in heard.means()}
        return StepOutput(loss=total, weight=weight, parts=parts)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss and accuracy by level and masking ratio; the n-th window tests level n mod Q.

        A window is an utterance's beginning. Where there are fewer utterances than levels they
        come again, with other masks, so that every level is tested.
        """
        if self.valid is None:
            return {}
        assert isinstance(model, SoundStorm)
        rate = float(self.valid.acoustic_spec.frame_rate)
        longest = int(VALIDATION_SECONDS * rate)
        Q = self.config.levels
        lengths = np.minimum(self.valid.lengths[: self.settings.valid_examples], longest)
        level_of = {}
        for index in range(max(len(lengths), Q)):
            example = index % len(lengths)
            seed = derive_seed(0, "validation", index)
            window = Window(example=example, start=0, length=int(lengths[example]), seed=seed)
            level_of[window] = index % Q
        table = LossTable(Q)
        budget = max(1, int(self.settings.micro_batch_seconds * rate))
        for part in share(list(level_of), rank=0, world=1, budget=budget):
            batch = collate(self.valid, part, Q, level_of=level_of)
            sums = masked_loss(
                model, batch.acoustic.to(self.device), batch.semantic.to(self.device), batch.mask
            )
            table.add(sums, batch.mask)
        if self._listening is None:
            return table.summary()
        return table.summary() | self._listening.validate(model, self.valid, self.settings)

    def initialise(self, folder: Path) -> None:
        """Take a model's weights; its condition embeddings by way of `former`, where there is one.

        Raises:
            DataMismatch: if its network or tokens are others than this run's.
        """
        model = from_model_file(folder, torch.device("cpu"))
        apart = ("semantic_codebook_size", "centroid_dim") if self.former else ()
        require_same_network(model.network.config, self.config, folder=folder, apart=apart)
        model.acoustic.require_same(
            self.store.acoustic_spec, ours=str(folder), theirs="the training set"
        )
        weights = model.network.state_dict()
        if self.former is None:
            model.semantic.require_same(
                self.store.semantic_spec, ours=str(folder), theirs="the training set"
            )
            self.network.load_state_dict(weights)
            return
        alike = {name: value for name, value in weights.items() if not is_condition(name)}
        self.network.load_state_dict(self.network.state_dict() | alike)
        tokens = same_frames(self.former, self.store, model.semantic, folder=folder)
        carry_semantic(self.network, model.network.condition_table(), *tokens)

    def export(self, folder: Path, weights: Mapping[str, Tensor], extra: dict[str, Any]) -> None:
        to_model_file(
            folder,
            config=self.config,
            weights=weights,
            semantic=self.store.semantic_spec,
            acoustic=self.store.acoustic_spec,
            extra=extra,
        )
