"""Whether the voice of the prompt goes on: cosine similarity of speaker embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
    third_party,
)
from stages.shards.provenance import hash_file


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
    packages = ("resemblyzer", "webrtcvad", "librosa", "pkg_resources")
    uses_prompt = True

    def __init__(self, device: str = "cpu") -> None:
        self.settings: dict[str, Any] = {"encoder": _encoder_hash()}
        self._device = device
        self._encoder: Any = None

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
        """A unit vector, `[256]`."""
        with third_party(self.name):
            from resemblyzer import VoiceEncoder, normalize_volume, trim_long_silences

            if self._encoder is None:
                self._encoder = VoiceEncoder(self._device, verbose=False)
            if not samples.any():
                raise RowFailure("it is silent: there is no voice in it")
            # Its own preparation, but clipped: it would wrap louder samples around.
            loud = np.clip(normalize_volume(samples, -30, increase_only=True), -1.0, 1.0)
            voiced = trim_long_silences(loud)
            if len(voiced) < SHORTEST * SAMPLE_RATE:
                voiced = loud  # noise, or a voice that its detector does not know as one
            with _one_thread():
                embedding = self._encoder.embed_utterance(voiced)
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


@contextmanager
def _one_thread() -> Iterator[None]:
    """Hold torch to one thread.

    The encoder is a small LSTM: threads that wait for each other at each of its steps gain little
    on an idle machine, and on a busy one make it a hundred times slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def _encoder_hash() -> str | None:
    """SHA-256 hex of the speaker encoder's weights, found without importing it."""
    spec = find_spec("resemblyzer")
    if spec is None or spec.origin is None:
        return None
    weights = Path(spec.origin).parent / "pretrained.pt"
    return hash_file(weights) if weights.is_file() else None
