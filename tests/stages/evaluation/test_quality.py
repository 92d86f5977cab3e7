"""DNSMOS through its package, with the weights that come inside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.errors import RowFailure
from stages.evaluation.measure import SAMPLE_RATE, Clip, Utterance
from stages.evaluation.quality import Quality

pytest.importorskip("onnxruntime", reason="DNSMOS needs the eval extra")

ONE_WINDOW = round(9.02 * SAMPLE_RATE)


def clip(samples: NDArray[np.float32], prompt_seconds: float = 0.0) -> Clip:
    return Clip(Utterance(id="a"), lambda: samples, prompt_seconds=prompt_seconds)


def test_noise_costs_quality_and_louder_than_full_scale_is_clipped(
    make_speech: Callable[..., NDArray[np.float32]],
) -> None:
    measure = Quality()
    speech = make_speech(10.0)[:ONE_WINDOW]
    noise = np.random.default_rng(0).standard_normal(ONE_WINDOW).astype(np.float32)
    clean = measure.score(clip(speech))
    dirty = measure.score(clip(speech + 0.7 * noise))
    assert set(clean) == {metric.name for metric in measure.metrics}
    assert all(1.0 <= value <= 5.0 for value in clean.values())
    assert clean["dnsmos_background"] > dirty["dnsmos_background"] + 0.5
    assert clean["dnsmos_overall"] > dirty["dnsmos_overall"]


def test_only_what_follows_the_prompt_is_judged(
    make_speech: Callable[..., NDArray[np.float32]],
) -> None:
    measure = Quality()
    speech = make_speech(10.0)[:ONE_WINDOW]
    prompted = np.concatenate((np.ones(8_000, dtype=np.float32), speech))
    assert measure.score(clip(prompted, 0.5)) == measure.score(clip(speech))
    with pytest.raises(RowFailure, match=r"0\.25 s remain after its prompt of 0\.5 s"):
        measure.score(clip(prompted[:12_000], 0.5))
