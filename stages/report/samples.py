"""Some utterances as every system speaks them: sound and spectrogram, to put into a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import soundfile
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from stages.audio.features import LogMel, LogMelConfig
from stages.errors import RowFailure
from stages.evaluation.measure import SAMPLE_RATE
from stages.evaluation.systems import System
from stages.report.evaluations import Evaluation

RANGE = 8.0
"""Nepers below the loudest band that are still shown, about 70 dB."""

COLOURS = "magma"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One utterance of one system."""

    label: str
    """The system's."""

    seconds: float

    prompt_seconds: float | None
    """How long its given beginning is; None where the system does not say."""

    sound: bytes
    """FLAC, 16 kHz mono."""

    picture: bytes
    """PNG: a log-mel spectrogram, a pixel a band and 20 ms."""

    size: tuple[int, int]
    """Width and height of the picture."""

    @property
    def sound_uri(self) -> str:
        return _data_uri("audio/flac", self.sound)

    @property
    def picture_uri(self) -> str:
        return _data_uri("image/png", self.picture)

    @property
    def prompt_share(self) -> float | None:
        """Where the prompt ends, in per cent of the clip."""
        return 100 * self.prompt_seconds / self.seconds if self.prompt_seconds else None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One utterance."""

    id: str
    speaker: str | None
    text: str | None
    clips: list[Clip]


def choose(evaluations: Sequence[Evaluation], count: int) -> list[str]:
    """Ids of utterances that all evaluations have, spread from the shortest to the longest.

    Without lengths in the scores, spread over the sorted ids.
    """
    shared = set.intersection(*(set(one.ids) for one in evaluations))
    seconds: dict[str, float] = {}
    for one in evaluations:
        for rows in one.rows.values():
            seconds |= {name: row["seconds"] for name, row in rows.items() if "seconds" in row}
    ids = sorted(shared, key=lambda name: (seconds.get(name, 0.0), name))
    if not ids or count < 1:
        return []
    places = np.linspace(0, len(ids) - 1, num=min(count, len(ids))).round().astype(int)
    return [ids[place] for place in dict.fromkeys(places.tolist())]


def hear(
    ids: Sequence[str], systems: Mapping[str, System], evaluations: Sequence[Evaluation]
) -> tuple[list[Sample], list[str]]:
    """Each utterance as each system speaks it.

    Args:
        ids: from `choose`.
        systems: by label.
        evaluations: that know speakers and texts.

    Returns:
        The samples, and a line for every clip that could not be had.
    """
    known: dict[str, dict[str, str]] = {}
    for one in evaluations:
        for rows in one.rows.values():
            for name, row in rows.items():
                known[name] = row | known.get(name, {})
    samples: list[Sample] = []
    missing: list[str] = []
    for row_id in ids:
        clips = []
        for label, system in systems.items():
            try:
                clips.append(_clip(label, system, row_id))
            except (KeyError, RowFailure) as failure:
                reason = "it lacks the utterance" if isinstance(failure, KeyError) else failure
                missing.append(f"{row_id} by {label}: {reason}")
        if clips:
            facts = known.get(row_id, {})
            samples.append(
                Sample(
                    id=row_id,
                    speaker=facts.get("speaker"),
                    text=_text(facts),
                    clips=clips,
                )
            )
    return samples, missing


def _text(facts: Mapping[str, str]) -> str | None:
    """What words were held against; of several judges' columns, the first by name."""
    names = sorted(
        name
        for name in facts
        if name.startswith("reference") and not name.startswith("reference_is")
    )
    return facts[names[0]] if names else None


def _clip(label: str, system: System, row_id: str) -> Clip:
    samples = system.load(row_id)
    picture, size = spectrogram(samples)
    return Clip(
        label=label,
        seconds=len(samples) / SAMPLE_RATE,
        prompt_seconds=system.prompt_seconds(row_id),
        sound=flac(samples),
        picture=picture,
        size=size,
    )


def flac(samples: NDArray[np.float32]) -> bytes:
    """`[N]` float32 at 16 kHz as a FLAC file of 16 bits, which every browser plays."""
    buffer = io.BytesIO()
    clipped = np.clip(samples, -1.0, 1.0)
    soundfile.write(buffer, clipped, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def spectrogram(samples: NDArray[np.float32]) -> tuple[bytes, tuple[int, int]]:
    """A log-mel spectrogram of `[N]` samples as a small PNG with a palette, and its size.

    Its brightest band is the loudest one of the clip.
    """
    mel = LogMel(LogMelConfig(sample_rate=SAMPLE_RATE))
    batch = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))[None]  # [1, N]
    features = mel(batch, torch.tensor([batch.shape[1]]))[0][0].T.flip(0)  # [mels, T], high first
    scaled = ((features - features.max()) / RANGE + 1).clamp(0, 1)
    levels = (scaled * 255).round().to(torch.uint8).contiguous().numpy()
    height, width = levels.shape
    image = Image.frombytes("P", (width, height), levels.tobytes())
    palette = (colormaps[COLOURS](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue(), (width, height)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
