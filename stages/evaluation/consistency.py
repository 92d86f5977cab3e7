"""Whether the acoustics of the prompt go on: voice, room, noise (paper, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.consistency.config import CROP_SECONDS, ConsistencyConfig
from stages.consistency.contrast import finds_own
from stages.consistency.model import KIND, load_consistency
from stages.consistency.network import ConsistencyNetwork
from stages.errors import DataMismatch, RowFailure
from stages.evaluation.curves import Curve, curve_of
from stages.evaluation.measure import SAMPLE_RATE, Clip, Measure, Metric, Scores, Utterance
from stages.nn.model_file import load_model_file

SHORTEST_CROP = 1.0
"""Seconds: a prompt, or all that follows it, may be no shorter. The paper's shortest clips, of 4 s
with prompts of 3 s, have so much left."""

CROP = round(CROP_SECONDS * SAMPLE_RATE)
"""Samples."""


class AcousticConsistency(Measure):
    """The prompt against crops of 3 s of what follows it, by a model trained to tell recordings.

    All are the same system's, so that the codec is the same on both sides. Crops lie end to end,
    as those of the paper's Table 1.
    """

    name = "consistency"
    metrics = (
        Metric(name="consistency", title="consistency", higher_is_better=True),
        Metric(
            name="consistency_retrieval", title="retrieval %", higher_is_better=True, scale=100,
            digits=1,
        ),
        Metric(
            name="consistency_other", title="consistency: other", higher_is_better=False,
            in_table=False,
        ),
        Metric(
            name="consistency_chance", title="retrieval by chance %", higher_is_better=False,
            scale=100, digits=1, in_table=False,
        ),
    )  # fmt: skip
    uses_prompt = True

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Name the model.

        Args:
            folder: that `train --model consistency` wrote.
            device: where it runs.

        Raises:
            DataMismatch: if it is none, or hears another sample rate than everything is judged at.
        """
        file = load_model_file(folder, kind=KIND)
        rate = ConsistencyConfig.from_json(file.config, where=str(folder)).encoder.sample_rate
        if rate != SAMPLE_RATE:
            raise DataMismatch(
                f"the consistency model {folder} hears {rate} Hz, and everything is judged at "
                f"{SAMPLE_RATE}: train one on an encoder of that rate"
            )
        self.settings: dict[str, Any] = {
            "model": file.fingerprint,
            "crop_seconds": CROP_SECONDS,
        }
        self._folder, self._device = folder, device

    @cached_property
    def _network(self) -> ConsistencyNetwork:
        return load_consistency(self._folder, self._device)[0]

    def applies(self, clip: Clip) -> bool:
        return clip.prompt_seconds > 0

    def score(self, clip: Clip) -> Scores:
        """Embeddings of the prompt and of each crop; `compare` turns them into similarities."""
        prompt = clip.prompt[:CROP]
        _require_length(prompt, "its prompt lasts")
        crops = later_crops(clip.samples[len(clip.prompt) :])
        embedded = self._embed([prompt, *crops])
        starts = [index * CROP_SECONDS for index in range(len(crops))]
        return {
            "prompt_embedding": embedded[0],
            "crop_embeddings": embedded[1:],
            "seconds": [
                start + len(crop) / SAMPLE_RATE / 2
                for start, crop in zip(starts, crops, strict=True)
            ],
        }

    def compare(
        self, scores: Mapping[str, Scores], utterances: Mapping[str, Utterance]
    ) -> dict[str, Scores]:
        """Similarities by id, and which prompts find their own clips.

        A prompt is looked up among the last crops of all clips, which are furthest from theirs.
        """
        del utterances
        names = list(scores)
        if not names:
            return {}
        prompts = torch.stack([_units([scores[name]["prompt_embedding"]])[0] for name in names])
        crops = [_units(scores[name]["crop_embeddings"]) for name in names]
        similarities = prompts @ torch.stack([rows[-1] for rows in crops]).T  # [N, N]
        found: dict[str, Scores] = {}
        for name, prompt, rows in zip(names, prompts, crops, strict=True):
            curve = (rows @ prompt).tolist()
            found[name] = {
                "consistency": float(np.mean(curve)),
                "consistency_curve": curve,
                "consistency_seconds": scores[name]["seconds"],
            }
        if len(names) == 1:
            return found  # nothing to tell it from
        others = (similarities.sum(dim=1) - similarities.diagonal()) / (len(names) - 1)
        retrieved = finds_own(similarities)
        for index, name in enumerate(names):
            found[name] |= {
                "consistency_retrieval": int(retrieved[index]),
                "consistency_other": float(others[index]),
                "consistency_chance": 1 / len(names),
            }
        return found

    def curve(self, scores: Mapping[str, Scores]) -> Curve | None:
        """Consistency by the seconds from the prompt's end to the middle of a whole crop."""
        return curve_of(
            (score["consistency_seconds"], score["consistency_curve"])
            for score in scores.values()
            if score["consistency_seconds"][0] == CROP_SECONDS / 2
        )

    @torch.inference_mode()
    def _embed(self, crops: Sequence[NDArray[np.float32]]) -> list[list[float]]:
        """Unit vectors, `[crops][D]`."""
        lengths = torch.tensor([len(crop) for crop in crops])
        samples = torch.zeros(len(crops), int(lengths.max()))
        for row, crop in zip(samples, crops, strict=True):
            row[: len(crop)] = torch.from_numpy(crop)
        embedded = self._network.embed(samples.to(self._device), lengths.to(self._device))
        return [[round(value, 6) for value in row] for row in embedded.tolist()]


def later_crops(rest: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Crops end to end, each of 3 s; a rest shorter than one is one crop.

    Args:
        rest: `[N]` at `SAMPLE_RATE`, what follows the prompt.

    Raises:
        RowFailure: if it is too short to judge.
    """
    _require_length(rest, "what follows its prompt lasts")
    count = len(rest) // CROP
    return [rest[index * CROP : (index + 1) * CROP] for index in range(count)] or [rest]


def _require_length(samples: NDArray[np.float32], what: str) -> None:
    if len(samples) < SHORTEST_CROP * SAMPLE_RATE:
        raise RowFailure(
            f"{what} {len(samples) / SAMPLE_RATE:.2f} s: acoustic consistency needs "
            f"{SHORTEST_CROP:g} s"
        )


def _units(rows: Sequence[Sequence[float]]) -> torch.Tensor:
    """Embeddings as float64 unit vectors, `[N, D]`, whatever rounding did to them."""
    return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float64), dim=-1)
