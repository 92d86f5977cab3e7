"""Reconstruction measures on signals whose distances are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.errors import RowFailure
from stages.evaluation.measure import Clip, Utterance
from stages.evaluation.reconstruction import LIMIT_DB, LogMelDistance, Reconstruction, si_sdr

Samples = NDArray[np.float32]


def clip(samples: Samples, recording: Samples | None) -> Clip:
    return Clip(
        Utterance(id="a"),
        lambda: samples,
        load_recording=None if recording is None else lambda: recording,
    )


def noisy(target: Samples, decibels: float) -> Samples:
    """The target plus noise exactly orthogonal to it, at a known ratio."""
    wanted = target.astype(np.float64) - target.mean()
    noise = np.random.default_rng(0).standard_normal(len(target))
    noise -= noise.mean()
    noise -= (noise @ wanted) / (wanted @ wanted) * wanted
    gain = np.linalg.norm(wanted) / np.linalg.norm(noise) * 10 ** (-decibels / 20)
    return (target + gain * noise).astype(np.float32)


@pytest.mark.parametrize("decibels", [-10.0, 0.0, 12.5, 30.0])
def test_si_sdr_is_the_ratio_that_was_mixed(
    make_speech: Callable[..., Samples], decibels: float
) -> None:
    target = make_speech(0.5)
    assert si_sdr(noisy(target, decibels), target) == pytest.approx(decibels, abs=0.01)


def test_si_sdr_ignores_gain_and_offset(make_speech: Callable[..., Samples]) -> None:
    target = make_speech(0.5)
    estimate = noisy(target, 12.0)
    assert si_sdr(0.3 * estimate + 0.1, target) == pytest.approx(12.0, abs=0.01)


def test_si_sdr_is_finite_at_its_ends(make_speech: Callable[..., Samples]) -> None:
    target = make_speech(0.5)
    assert si_sdr(target, target) == LIMIT_DB
    assert si_sdr(np.zeros_like(target), target) == -LIMIT_DB


def test_si_sdr_of_a_silent_recording_is_a_failure() -> None:
    with pytest.raises(RowFailure, match="silent"):
        si_sdr(np.ones(100, dtype=np.float32), np.zeros(100, dtype=np.float32))


def test_log_mel_distance_of_a_gain_is_its_logarithm() -> None:
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    distance = LogMelDistance()
    assert distance(noise, noise) == 0.0
    assert distance(noise, 2 * noise) == pytest.approx(math.log(2), abs=1e-4)


def test_lengths_may_differ_by_a_codec_frame_but_no_more() -> None:
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    measure = Reconstruction()
    scores = measure.score(clip(np.pad(noise, (0, 319)), noise))
    assert scores["log_mel_distance"] == 0.0
    assert scores["si_sdr"] == LIMIT_DB
    with pytest.raises(RowFailure, match=r"1\.50 s and its recording 1\.00 s"):
        measure.score(clip(np.pad(noise, (0, 8_000)), noise))


def test_recordings_are_not_held_against_themselves() -> None:
    noise = np.ones(16_000, dtype=np.float32)
    assert not Reconstruction().applies(clip(noise, None))
    assert Reconstruction().applies(clip(noise, noise))
