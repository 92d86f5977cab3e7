"""How close a clip is to its recording: log-mel distance and SI-SDR."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.audio.features import LogMel, LogMelConfig
from stages.errors import RowFailure
from stages.evaluation.measure import SAMPLE_RATE, Clip, Measure, Metric, Scores

LIMIT_DB = 100.0
"""SI-SDR is cut here, so that identical audio has a finite score and sets have a finite mean."""

TOLERANCE = 0.1
"""Seconds by which a clip and its recording may differ in length; codecs fill their last frame."""


def si_sdr(estimate: NDArray[np.float32], target: NDArray[np.float32]) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019), within ±100.

    Args:
        estimate: `[N]`.
        target: `[N]`.

    Raises:
        RowFailure: if the target is silent, so that no ratio exists.
    """
    wanted = target.astype(np.float64) - target.mean(dtype=np.float64)
    heard = estimate.astype(np.float64) - estimate.mean(dtype=np.float64)
    energy = float(wanted @ wanted)
    if energy == 0.0:
        raise RowFailure("the recording is silent: SI-SDR needs a signal")
    signal = (float(heard @ wanted) / energy) * wanted
    distortion = heard - signal
    over, under = float(signal @ signal), float(distortion @ distortion)
    if over == 0.0:
        return -LIMIT_DB
    if under == 0.0:
        return LIMIT_DB
    return float(np.clip(10 * np.log10(over / under), -LIMIT_DB, LIMIT_DB))


class LogMelDistance:
    """Mean absolute difference of natural-log mel magnitudes, over frames and bands.

    The spectrogram is the toolkit's own: 100 bands of 1024-sample windows every 320 at 16 kHz.
    """

    def __init__(self) -> None:
        self.config = LogMelConfig(sample_rate=SAMPLE_RATE)

    @cached_property
    def _log_mel(self) -> LogMel:
        return LogMel(self.config)

    def __call__(self, one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
        """Compare two clips `[N]` of one length."""
        pair = torch.from_numpy(np.stack((one, other)))  # [2, N]
        with torch.inference_mode():
            frames, _ = self._log_mel(pair, torch.tensor([len(one), len(one)]))  # [2, T, mels]
        return float((frames[0] - frames[1]).abs().mean())


class Reconstruction(Measure):
    """Distance from the recording; for codecs, and for whatever should sound sample by sample."""

    name = "reconstruction"
    metrics = (
        Metric(name="log_mel_distance", title="log-mel dist.", higher_is_better=False),
        Metric(name="si_sdr", title="SI-SDR dB", higher_is_better=True, digits=1),
    )
    uses_recording = True

    def __init__(self) -> None:
        self._distance = LogMelDistance()
        self.settings: dict[str, Any] = {
            "log_mel": [self._distance.config.mels, self._distance.config.hop],
            "limit_db": LIMIT_DB,
        }

    def applies(self, clip: Clip) -> bool:
        return clip.has_recording

    def score(self, clip: Clip) -> Scores:
        recording = clip.recording
        assert recording is not None
        difference = abs(len(recording) - len(clip.samples)) / SAMPLE_RATE
        if difference > TOLERANCE:
            raise RowFailure(
                f"it lasts {len(clip.samples) / SAMPLE_RATE:.2f} s and its recording "
                f"{len(recording) / SAMPLE_RATE:.2f} s: they are not aligned"
            )
        length = min(len(recording), len(clip.samples))
        one, other = clip.samples[:length], recording[:length]
        return {"log_mel_distance": self._distance(one, other), "si_sdr": si_sdr(one, other)}
