"""Teaching SoundStorm by what a Whisper hears in whole utterances that it speaks again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from stages.assets import model_folder
from stages.codec.mel.model import load_mel_codec
from stages.errors import DataMismatch
from stages.nn.model_file import CONFIG_NAME
from stages.semantic.encoders.whisper import teacher_folder
from stages.semantic.whisper_ear import HEARD_SECONDS
from stages.shards.provenance import hash_file
from stages.soundstorm.listening import Heard, Listener
from stages.soundstorm.network import SoundStorm
from stages.soundstorm.unrolled import PromptedRows, sample_first, unroll
from stages.training.seeds import derive_seed
from stages.training.settings import TrainingSettings
from stages.training.tasks.means import Means
from stages.training.tasks.soundstorm_recipe import SoundStormRecipe
from stages.training.token_store import TokenStore
from stages.training.windows import Window, WindowSampler, deal

LONGEST_SECONDS = HEARD_SECONDS - 2
"""Of an utterance that is heard whole: some silence has to come after it."""

LONGEST_PROMPT = 1 / 3
"""Of an utterance, at most; prompts are drawn evenly from none to that."""

UNPROMPTED = 1 / 5
"""Part of the utterances without any prompt."""

DECODED_LEVELS = 8
"""The finer ones hardly say anything of the words (`docs/models.md`)."""

GRADED_LEVELS = 5
"""Of those, what is taught: it is at the second and third that words are lost."""

FIRST_PASSES = 6
"""In which the first level is filled where it is sampled."""

PADDED = 256
"""On a GPU, rows get a multiple of so many frames: convolutions are planned anew for each length,
and there planning takes far longer than convolving."""

VALIDATED = 24
"""Utterances that validation listens to, at most."""


@dataclass(frozen=True, kw_only=True)
class HeardBatch:
    """Utterances to speak and to listen to, on the CPU."""

    rows: PromptedRows

    texts: list[str | None]
    """What they say, where it is known and nothing of it is missing."""

    seeds: list[int]
    """Of each."""


class HeardWindows:
    """The utterances that each step listens to, as whole as Whisper hears them."""

    def __init__(
        self, store: TokenStore, settings: TrainingSettings, utterances: int, levels: int
    ) -> None:
        self._store, self._levels = store, levels
        rate = float(store.acoustic_spec.frame_rate)
        self._sampler = WindowSampler(
            store.lengths,
            store.speakers,
            units_per_second=rate,
            batch_size=utterances,
            seed=derive_seed(settings.seed, "heard"),
            settings=replace(
                settings.data, min_seconds=LONGEST_SECONDS, max_seconds=LONGEST_SECONDS
            ),
        )

    def dealt(self, step: int, rank: int, world: int, parts: int) -> list[HeardBatch | None]:
        """This process's utterances of a step, those of like length together, in `parts` parts."""
        mine = deal(self._sampler.windows(step), rank=rank, world=world)
        ends = [len(mine) * part // parts for part in range(parts + 1)]
        dealt = (mine[start:end] for start, end in pairwise(ends))
        return [collate_heard(self._store, part, self._levels) if part else None for part in dealt]


def collate_heard(store: TokenStore, windows: Sequence[Window], levels: int) -> HeardBatch:
    """Put windows into one batch and draw each one's prompt from its own seed."""
    semantic, acoustic, lengths = store.padded(windows, levels)
    texts, prompts = [], []
    for window in windows:
        whole = window.length == store.lengths[window.example]
        texts.append(store.texts[window.example] if whole else None)
        generator = torch.Generator().manual_seed(window.seed)
        drawn = float(torch.rand((), generator=generator))
        share_given = max(0.0, (drawn - UNPROMPTED) / (1 - UNPROMPTED)) * LONGEST_PROMPT
        prompts.append(int(share_given * window.length))
    rows = PromptedRows(
        semantic=semantic, acoustic=acoustic, lengths=lengths, prompts=torch.tensor(prompts)
    )
    return HeardBatch(rows=rows, texts=texts, seeds=[window.seed for window in windows])


class Listening:
    """The loss of what is heard.

    Args:
        recipe: with an `encoder` and the `codec` of the tokens.
        device: where the network is.

    Raises:
        DataMismatch: if the listener is no Whisper, or the codec no mel codec.
    """

    def __init__(self, recipe: SoundStormRecipe, device: torch.device) -> None:
        folder = teacher_folder(
            recipe.encoder,
            refusal="SoundStorm learns from what a Whisper hears: --encoder whisper:FOLDER, not "
            f"{recipe.encoder}",
        )
        if not recipe.codec:
            raise DataMismatch(
                "what SoundStorm speaks can be heard only through the codec of its tokens: name "
                "it with --codec"
            )
        made_by = model_folder(recipe.codec, "codec")
        if not (made_by / CONFIG_NAME).is_file():
            raise DataMismatch(
                f"what SoundStorm speaks can be heard only through a mel codec, as `train --model "
                f"codec` makes them, and {recipe.codec} is none"
            )
        # That it made the tokens has been seen to where embeddings start from it.
        codec, _ = load_mel_codec(made_by)
        self._recipe, self._device = recipe, device
        self._listener = Listener(codec, folder).to(device)
        self.fingerprint = hash_file(folder / "model.bin")

    def hear(self, network: SoundStorm, batch: HeardBatch) -> Heard:
        """Speak a batch again and listen.

        A third of the batches have the true first level, a third one that is sampled as decoding
        does it; in the others it is the likeliest, and taught, too.
        """
        rows = batch.rows.to(self._device)
        if self._device.type != "cpu":
            rows = rows.padded(PADDED)
        generator = torch.Generator().manual_seed(batch.seeds[0])
        kind = int(torch.randint(3, (), generator=generator))
        first = None
        if kind == 0:
            first = rows.acoustic[..., 0]
        elif kind == 1:
            first = sample_first(network, rows, passes=FIRST_PASSES, seeds=batch.seeds)
        return self._speak(network, rows, first, batch.texts)

    def loss(self, heard: Heard) -> Tensor:
        """Scalar with gradients."""
        recipe = self._recipe
        return (
            recipe.difference_weight * heard.difference
            + recipe.divergence_weight * heard.divergence
        )

    @torch.no_grad()
    def validate(
        self, network: SoundStorm, valid: TokenStore, settings: TrainingSettings
    ) -> dict[str, float]:
        """Means over the first utterances of a validation set, decoded by the likeliest codes."""
        longest = int(LONGEST_SECONDS * float(valid.acoustic_spec.frame_rate))
        means = Means()
        count = min(VALIDATED, settings.valid_examples)
        for index, length in enumerate(np.minimum(valid.lengths[:count], longest).tolist()):
            seed = derive_seed(0, "validation", index)
            window = Window(example=index, start=0, length=length, seed=seed)
            batch = collate_heard(valid, [window], network.config.levels)
            heard = self._speak(network, batch.rows.to(self._device), None, batch.texts)
            for name, mean, weight in heard.means():
                means.add(name, mean, weight)
        return means.summary()

    def _speak(
        self,
        network: SoundStorm,
        rows: PromptedRows,
        first: Tensor | None,
        texts: Sequence[str | None],
    ) -> Heard:
        levels = min(DECODED_LEVELS, network.config.levels)
        codebooks = self._listener.codec.quantizer.codebooks
        quantised = unroll(
            network, rows, codebooks, levels=levels, graded=GRADED_LEVELS, first=first
        )
        heard: Heard = self._listener(quantised, rows, texts)
        return heard
