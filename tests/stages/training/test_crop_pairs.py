"""Which crops of which recordings are contrasted."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from stages.errors import DataMismatch
from stages.training.crop_pairs import CropPairs, draw_crops
from stages.training.settings import DataSettings, TrainingSettings
from stages.training.speech import SpeechSet

RATE = 100


def pairs(seconds: list[float], speakers: list[str | None], **options: int) -> CropPairs:
    settings = TrainingSettings(
        model="consistency", preset="mini", batch_size=8,
        data=DataSettings(min_seconds=2.0, max_seconds=5.0),
    )  # fmt: skip
    speech = SpeechSet(
        paths=[f"{index}.wav" for index in range(len(seconds))],
        speakers=speakers,
        seconds=np.array(seconds),
        fingerprint="",
    )
    return CropPairs(speech, settings, RATE, **({"group": 4, "per_speaker": 1} | options))


@pytest.mark.parametrize("whole", [400, 401, 555, 3000])
def test_two_crops_lie_in_the_recording_and_do_not_overlap(whole: int) -> None:
    generator = np.random.default_rng(0)
    lengths, gaps = [], []
    for _ in range(300):
        (start, one), (later, other) = draw_crops(whole, 200, 500, generator=generator)
        assert start >= 0
        assert start + one <= later
        assert later + other <= whole
        assert 200 <= min(one, other) <= max(one, other) <= 500
        lengths += [one, other]
        gaps.append(later - start - one)
    if whole == 3000:
        assert min(lengths) < 230 < 470 < max(lengths)
        assert min(gaps) < 100 < 1000 < max(gaps)


def test_a_group_has_a_recording_once_and_both_its_crops_together() -> None:
    sampler = pairs([10.0] * 6, [None] * 6)
    for step in range(20):
        windows = sampler.windows(step, 0)
        examples = [window.example for window in windows]
        assert examples[0::2] == examples[1::2]
        assert len(set(examples)) == 4
    assert sampler.windows(3, 0) == pairs([10.0] * 6, [None] * 6).windows(3, 0)
    assert sampler.windows(3, 0) != sampler.windows(3, 1)


def test_a_speaker_comes_with_another_recording_of_theirs() -> None:
    speakers = [f"s{index // 4}" for index in range(80)]
    together = pairs([10.0] * 80, speakers, per_speaker=2)
    for step in range(10):
        examples = [window.example for window in together.windows(step, 0)][::2]
        assert sorted(Counter(speakers[example] for example in examples).values()) == [2, 2]


def test_what_is_too_short_for_two_crops_is_left_out() -> None:
    sampler = pairs([10.0, 3.9, 4.0, 10.0, 10.0], [None] * 5)
    assert sampler.too_short == 1
    drawn = {window.example for step in range(20) for window in sampler.windows(step, 0)}
    assert drawn == {0, 2, 3, 4}
    with pytest.raises(DataMismatch, match=r"3 recordings last 4 s, twice data.min_seconds, and 4"):
        pairs([10.0, 3.9, 1.0, 10.0, 10.0], [None] * 5)
