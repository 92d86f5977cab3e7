"""Teaching a model to tell whether two crops are of one recording (paper, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.consistency.config import CROP_SECONDS, ConsistencyConfig, HeadConfig
from stages.consistency.contrast import contrast, finds_own
from stages.consistency.encoder import tap_encoder
from stages.consistency.model import load_consistency, save_consistency
from stages.consistency.network import ConsistencyNetwork
from stages.errors import DataMismatch
from stages.training.crop_pairs import CropPairs, long_enough, shortest_crop
from stages.training.seeds import derive_seed
from stages.training.settings import TrainingSettings, overlay
from stages.training.speech import SpeechBatch, SpeechReader, SpeechSet
from stages.training.task import MODEL, StepOutput
from stages.training.tasks.same_network import require_same_network
from stages.training.tasks.speech_task import SpeechTask
from stages.training.windows import Window

ENCODER = "encoder."
"""Under this the encoder's weights are among the network's."""


@dataclass(frozen=True, kw_only=True)
class ConsistencyRecipe:
    """The fields of `recipe`."""

    encoder: str = ""
    """Folder of a BEST-RQ model, or `FOLDER:LAYER`."""

    encoder_fingerprint: str = ""
    """SHA-256 hex of that layer; always filled in anew, so that no run resumes on another."""

    group: int = 0
    """Recordings that are contrasted with one another, of which batch_size is a multiple; 0 is
    the whole batch. Each group goes through the network at once."""

    per_speaker: int = 2
    """Recordings of a speaker whom a group has, where there are so many: those tell apart only by
    how they were recorded. 1 leaves it to chance."""

    def __post_init__(self) -> None:
        if self.group < 0 or self.group == 1:
            raise DataMismatch("recipe.group must be at least 2, or 0 for the whole batch")
        if self.per_speaker < 1:
            raise DataMismatch("recipe.per_speaker must be at least 1")


class ConsistencyTask(SpeechTask):
    """Pairs of crops, contrasted over recordings, on a frozen encoder."""

    def __init__(
        self,
        settings: TrainingSettings,
        *,
        speech: SpeechSet,
        valid: SpeechSet | None,
        world: int = 1,
        **inputs: Any,
    ) -> None:
        """Build the network; `inputs` are `SpeechTask`'s, without the sample rate.

        Args:
            settings: of the run.
            speech: to train on.
            valid: to validate on.
            world: processes that train together.

        Raises:
            DataMismatch: if no encoder is named or it is none, the groups do not make up the
                batch or feed the processes, or too few recordings are long enough.
        """
        recipe = overlay(ConsistencyRecipe(), settings.recipe, where="recipe", prefix="recipe.")
        if not recipe.encoder:
            raise DataMismatch("name the BEST-RQ model to listen with: --encoder FOLDER[:LAYER]")
        group = _group_size(recipe, settings.batch_size, world)
        encoder, fingerprint = tap_encoder(recipe.encoder)
        settings = settings.with_recipe(encoder_fingerprint=fingerprint)
        self.config = ConsistencyConfig(
            encoder=encoder.config,
            head=HeadConfig.from_json(settings.network, where="the settings' network"),
        )
        rate = encoder.config.sample_rate
        super().__init__(settings, speech=speech, valid=valid, sample_rate=rate, **inputs)
        self.data = CropPairs(speech, settings, rate, group=group, per_speaker=recipe.per_speaker)
        if self.data.too_short:
            self._warn(
                f"{self.data.too_short} of {len(speech.paths)} recordings are shorter than "
                f"{2 * settings.data.min_seconds:g} s, twice data.min_seconds, and are not used"
            )
        self._valid_windows = [] if valid is None else self._pairs_to_validate(valid)
        self._valid_pairs: list[tuple[SpeechBatch, str | None]] | None = None
        torch.manual_seed(derive_seed(settings.seed, "weights"))
        network = ConsistencyNetwork(self.config)
        network.encoder.load_state_dict(encoder.state_dict())
        self.network = network.to(self.device)
        self.players = {MODEL: self.network}

    def loss(self, player: str, batch: SpeechBatch, step: int) -> StepOutput:
        del player, step
        samples, lengths, _ = self.arrive(batch)
        sums = self.network.loss(samples, lengths)
        accuracy = torch.stack((sums.correct, sums.recordings)).float()
        return StepOutput(loss=sums.loss, weight=sums.recordings, parts={"accuracy": accuracy})

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Whether each recording's first crop finds its last one among all recordings' last ones.

        Returns:
            The contrastive loss over the whole set; `accuracy` and its `chance`; and, where
            speakers have several recordings, both among the recordings of one speaker alone.
        """
        assert isinstance(model, ConsistencyNetwork)
        if self._valid is None:
            return {}
        if self._valid_pairs is None:
            self._valid_pairs = self._read_pairs(self._valid)
        embedded, speakers = [], []
        for batch, speaker in self._valid_pairs:
            samples, lengths, _ = self.arrive(batch)
            if len(lengths):
                embedded.append(model.embed(samples, lengths))  # [2, D]
                speakers.append(speaker)
        if not embedded:
            return {}
        pairs = torch.stack(embedded)  # [N, 2, D]
        sums = contrast(pairs[:, 0], pairs[:, 1], model.log_scale.exp())
        return {
            "loss": float(sums.loss / sums.recordings),
            "accuracy": float(sums.correct / sums.recordings),
            "chance": 1 / len(pairs),
            **_within_speakers(pairs[:, 0] @ pairs[:, 1].T, speakers),
        }

    def _pairs_to_validate(self, valid: SpeechSet) -> list[list[Window]]:
        """The first and the last crop of each recording that is long enough."""
        reader = SpeechReader(valid, self._sample_rate)
        usable = long_enough(reader.lengths, shortest_crop(self.settings.data, self._sample_rate))
        if len(usable) < 2:
            raise DataMismatch(
                f"{len(usable)} recordings of the validation set last "
                f"{2 * self.settings.data.min_seconds:g} s, twice data.min_seconds: at least 2 "
                "must, to be told apart"
            )
        windows = []
        for example in usable[: self.settings.valid_examples].tolist():
            whole = int(reader.lengths[example])
            length = min(round(CROP_SECONDS * self._sample_rate), whole // 2)
            windows.append(
                [
                    Window(example=example, start=start, length=length, seed=0)
                    for start in (0, whole - length)
                ]
            )
        return windows

    def _read_pairs(self, valid: SpeechSet) -> list[tuple[SpeechBatch, str | None]]:
        """Two rows of each recording, none of one that cannot be read; and its speaker."""
        reader = SpeechReader(valid, self._sample_rate)
        return [
            (reader.batch(pair, seed=0), valid.speakers[pair[0].example])
            for pair in self._valid_windows
        ]

    def initialise(self, folder: Path) -> None:
        """Start from another model's head and temperature; the encoder stays this run's own."""
        network, _ = load_consistency(folder)
        require_same_network(network.config, self.config, folder=folder)
        own = self.network.state_dict()
        kept = {name: value for name, value in own.items() if name.startswith(ENCODER)}
        self.network.load_state_dict(network.state_dict() | kept)

    def export(self, folder: Path, weights: Mapping[str, Tensor], extra: dict[str, Any]) -> None:
        save_consistency(folder, config=self.config, weights=weights, extra=extra)


def _group_size(recipe: ConsistencyRecipe, batch_size: int, world: int) -> int:
    group = recipe.group or batch_size
    if batch_size < 2 or batch_size % group:
        raise DataMismatch(
            f"a batch of {batch_size} recordings is no number of groups of {max(2, group)}: set "
            "batch_size or recipe.group"
        )
    if world > batch_size // group:
        raise DataMismatch(
            f"{batch_size // group} groups of {group} recordings do not feed {world} processes: "
            "raise batch_size, lower recipe.group, or start fewer"
        )
    return group


def _within_speakers(similarities: Tensor, speakers: list[str | None]) -> dict[str, float]:
    """Accuracy and chance when only recordings of the same speaker are told apart.

    Args:
        similarities: `[N, N]` of first and last crops.
        speakers: of each recording, None where unknown.
    """
    names = {name: place for place, name in enumerate(dict.fromkeys(speakers)) if name}
    codes = torch.tensor([names.get(name or "", -1) for name in speakers])
    same = (codes[:, None] == codes) & (codes >= 0)[:, None]  # [N, N]
    several = same.sum(dim=1) > 1
    if not several.any():
        return {}
    found = finds_own(similarities.cpu().masked_fill(~same, -torch.inf))
    return {
        "accuracy_same_speaker": float(found[several].float().mean()),
        "chance_same_speaker": float((1 / same[several].sum(dim=1)).mean()),
    }
