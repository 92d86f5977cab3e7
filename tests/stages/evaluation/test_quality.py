"""DNSMOS through its package, with the weights that come inside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.errors import RowFailure
from stages.evaluation.measure import SAMPLE_RATE, Clip, Utterance
from stages.evaluation.quality import DistilledQuality, Quality

pytest.importorskip("onnxruntime", reason="DNSMOS needs the eval extra")
pytest.importorskip("distillmos", reason="DistillMOS needs the eval extra")

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


def test_more_noise_is_less_quality(
    make_speech: Callable[..., NDArray[np.float32]], capsys: pytest.CaptureFixture[str]
) -> None:
    speech = make_speech(5.0)  # DNSMOS repeats it into one window
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    noise *= speech.std()
    levels = [clip(speech + noise * np.float32(10 ** (-snr / 20))) for snr in (20, 10, 0)]
    for measure in (Quality(), DistilledQuality()):
        first = measure.metrics[0].name
        ratings = [measure.score(level)[first] for level in levels]
        assert ratings == sorted(ratings, reverse=True)
        assert ratings[0] > ratings[-1] + 0.3
        assert all(1.0 <= rating <= 5.0 for rating in ratings)
    assert capsys.readouterr().out == ""  # of a package that prints where its weights are


def test_distillmos_hears_what_follows_the_prompt(
    make_speech: Callable[..., NDArray[np.float32]],
) -> None:
    measure = DistilledQuality()
    speech = make_speech(1.0)
    prompted = np.concatenate((np.ones(8_000, dtype=np.float32), speech))
    assert measure.score(clip(prompted, 0.5)) == measure.score(clip(speech))
