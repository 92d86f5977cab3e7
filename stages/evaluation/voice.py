"""Whether the voice of the prompt goes on: cosine similarity of speaker embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import RowFailure
from stages.evaluation.measure import (
    SAMPLE_RATE,
    SHORTEST,
    Clip,
    Measure,
    Metric,
    Scores,
    Utterance,
)
from stages.evaluation.speakers.base import SpeakerEncoder


class VoiceSimilarity(Measure):
    """The generated part against its own prompt, and against another speaker's (the control).

    The prompt is the system's own rendering of it, so that codec and channel are the same on both
    sides of every comparison. The other speaker's prompt comes from the same system, too.
    """

    name = "voice"
    metrics = (
        Metric(name="similarity_prompt", title="voice: prompt", higher_is_better=True),
        Metric(name="similarity_other", title="voice: other", higher_is_better=False),
        Metric(
            name="similarity_margin", title="voice: margin", higher_is_better=True, in_table=False
        ),
    )
    uses_prompt = True

    def __init__(self, encoder: SpeakerEncoder) -> None:
        self.settings: dict[str, Any] = {"encoder": encoder.fingerprint}
        self.packages = encoder.packages
        self._encoder = encoder

    def applies(self, clip: Clip) -> bool:
        return clip.prompt_seconds > 0

    def score(self, clip: Clip) -> Scores:
        """The two embeddings; `compare` turns them into similarities."""
        prompt = clip.prompt
        if len(prompt) < SHORTEST * SAMPLE_RATE:
            raise RowFailure(
                f"its prompt lasts {len(prompt) / SAMPLE_RATE:.2f} s: a voice needs {SHORTEST} s"
            )
        return {
            "prompt_embedding": self._embed(prompt),
            "voice_embedding": self._embed(clip.generated),
        }

    def compare(
        self, scores: Mapping[str, Scores], utterances: Mapping[str, Utterance]
    ) -> dict[str, Scores]:
        """Similarities by id; without a second speaker there is no control."""
        found: dict[str, Scores] = {}
        for name, score in scores.items():
            voice = np.array(score["voice_embedding"])
            own = _cosine(voice, np.array(score["prompt_embedding"]))
            found[name] = {"similarity_prompt": own}
            other = other_speaker(utterances[name], [utterances[key] for key in scores])
            if other is not None:
                control = _cosine(voice, np.array(scores[other]["prompt_embedding"]))
                found[name] |= {
                    "other_prompt": other,
                    "similarity_other": control,
                    "similarity_margin": own - control,
                }
        return found

    def _embed(self, samples: NDArray[np.float32]) -> list[float]:
        """A unit vector, `[D]`."""
        embedding = self._encoder.embed(samples)
        if not np.isfinite(embedding).all():
            raise RowFailure("its voice cannot be embedded")
        return [round(float(value), 6) for value in embedding]


def other_speaker(utterance: Utterance, candidates: list[Utterance]) -> str | None:
    """The id of another speaker's utterance, always the same one for the same set.

    Each utterance starts at its own place, given by its id, in the sorted list of the others.
    """
    if utterance.speaker is None:
        return None
    others = sorted(
        candidate.id
        for candidate in candidates
        if candidate.speaker is not None and candidate.speaker != utterance.speaker
    )
    if not others:
        return None
    digest = hashlib.sha256(utterance.id.encode("utf-8", "surrogateescape")).digest()
    return others[int.from_bytes(digest[:8], "big") % len(others)]


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
