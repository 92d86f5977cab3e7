"""Speaker similarity, and whose prompt is the control."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.errors import RowFailure
from stages.evaluation.measure import SAMPLE_RATE, Clip, Utterance
from stages.evaluation.speakers.resemblyzer import Resemblyzer
from stages.evaluation.voice import VoiceSimilarity, other_speaker

MakeSpeech = Callable[..., NDArray[np.float32]]


def utterances(*speakers: str | None) -> dict[str, Utterance]:
    return {
        f"u{index}": Utterance(id=f"u{index}", speaker=speaker)
        for index, speaker in enumerate(speakers)
    }


def test_the_control_is_another_speaker_and_always_the_same() -> None:
    everyone = list(utterances("a", "a", "b", "b", "c", None).values())
    speakers = {utterance.id: utterance.speaker for utterance in everyone}
    for utterance in everyone[:5]:
        other = other_speaker(utterance, everyone)
        assert other is not None
        assert speakers[other] not in (None, utterance.speaker)
        assert other_speaker(utterance, everyone[::-1]) == other


def test_without_another_speaker_there_is_no_control() -> None:
    alone = list(utterances("a", "a", None).values())
    assert [other_speaker(utterance, alone) for utterance in alone] == [None, None, None]


def test_similarities_are_cosines() -> None:
    scores = {
        "u0": {"prompt_embedding": [1.0, 0.0], "voice_embedding": [0.6, 0.8]},
        "u1": {"prompt_embedding": [0.0, 2.0], "voice_embedding": [0.0, 1.0]},
    }
    found = VoiceSimilarity(Resemblyzer()).compare(scores, utterances("a", "b"))
    assert found["u0"]["similarity_prompt"] == pytest.approx(0.6)
    assert found["u0"]["similarity_other"] == pytest.approx(0.8)
    assert found["u0"]["similarity_margin"] == pytest.approx(-0.2)
    assert found["u0"]["other_prompt"] == "u1"
    assert found["u1"]["similarity_prompt"] == pytest.approx(1.0)
    assert found["u1"]["similarity_other"] == pytest.approx(0.0)


def test_a_voice_is_nearer_to_itself(make_speech: MakeSpeech) -> None:
    pytest.importorskip("webrtcvad", reason="the voice measure needs the eval extra")
    measure = VoiceSimilarity(Resemblyzer())
    people = utterances("deep", "high")
    # Made-up voices differ in pitch, which each seed draws; two thirds of speed is a deeper voice.
    deep = make_speech(6.0, seed=3, sample_rate=24_000)
    high = make_speech(6.0, seed=3)
    scores = {}
    for name, voice in (("u0", deep), ("u1", high)):
        spoken = voice[: 6 * SAMPLE_RATE]
        clip = Clip(people[name], lambda spoken=spoken: spoken, prompt_seconds=3.0)  # type: ignore[misc]
        assert measure.applies(clip)
        scores[name] = measure.score(clip)
    for found in measure.compare(scores, people).values():
        assert found["similarity_margin"] > 0.05


def test_what_cannot_be_a_voice_is_a_failure(make_speech: MakeSpeech) -> None:
    pytest.importorskip("webrtcvad", reason="the voice measure needs the eval extra")
    measure = VoiceSimilarity(Resemblyzer())
    person = Utterance(id="a")
    silent = np.zeros(3 * SAMPLE_RATE, dtype=np.float32)
    with pytest.raises(RowFailure, match="silent"):
        measure.score(Clip(person, lambda: silent, prompt_seconds=1.0))
    speech = make_speech(2.0)
    with pytest.raises(RowFailure, match=r"its prompt lasts 0\.20 s"):
        measure.score(Clip(person, lambda: speech, prompt_seconds=0.2))
    assert not measure.applies(Clip(person, lambda: speech))
