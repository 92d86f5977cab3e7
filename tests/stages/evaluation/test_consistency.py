"""Acoustic consistency: crops, similarities, retrieval and curves by hand, and in `eval`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from soundstorm_cli.main import run
from stages.consistency.config import ConsistencyConfig, HeadConfig
from stages.consistency.model import save_consistency
from stages.consistency.network import ConsistencyNetwork
from stages.errors import DataMismatch, RowFailure
from stages.evaluation.cache import ScoreCache
from stages.evaluation.comparison import Task, compare, select
from stages.evaluation.consistency import CROP, AcousticConsistency, later_crops
from stages.evaluation.measure import SAMPLE_RATE, Clip, Scores, Utterance
from stages.evaluation.registry import choose_measures
from stages.evaluation.report import document
from stages.evaluation.systems import SoundFiles
from stages.semantic.speech_conformer import SpeechConformerConfig

MakeSpeech = Callable[..., NDArray[np.float32]]


def save_model(folder: Path, *, sample_rate: int = SAMPLE_RATE) -> Path:
    """An untrained consistency model."""
    torch.manual_seed(0)
    encoder = SpeechConformerConfig(
        layers=1, heads=2, width=16, feed_forward=16, mels=20, sample_rate=sample_rate
    )
    head = HeadConfig(heads=2, feed_forward=16, dim=8)
    config = ConsistencyConfig(encoder=encoder, head=head)
    save_consistency(folder, config=config, weights=ConsistencyNetwork(config).state_dict())
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


def clip_of(samples: NDArray[np.float32], prompt_seconds: float = 3.0) -> Clip:
    return Clip(Utterance(id="a"), lambda: samples, prompt_seconds=prompt_seconds)


def test_crops_lie_end_to_end_and_a_short_rest_is_one() -> None:
    rest = np.arange(CROP * 2 + 17_000, dtype=np.float32)
    crops = later_crops(rest)
    assert [(float(crop[0]), len(crop)) for crop in crops] == [(0, CROP), (CROP, CROP)]
    assert [len(crop) for crop in later_crops(rest[:17_000])] == [17_000]
    with pytest.raises(RowFailure, match=r"what follows its prompt lasts 0\.90 s: .* needs 1 s"):
        later_crops(rest[:14_400])


def test_identical_crops_have_the_similarity_1(model: Path, make_speech: MakeSpeech) -> None:
    measure = AcousticConsistency(model)
    piece = make_speech(3.0)
    same = np.tile(piece, 3)
    scores = measure.score(clip_of(same))
    assert scores["seconds"] == [1.5, 4.5]
    (found,) = measure.compare({"a": scores}, {"a": Utterance(id="a")}).values()
    assert found["consistency"] == pytest.approx(1.0, abs=1e-5)
    assert found["consistency_curve"] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert "consistency_retrieval" not in found  # there is nothing to tell it from

    other = np.concatenate([piece, make_speech(3.0, seed=1)])
    (found,) = measure.compare({"a": measure.score(clip_of(other))}, {}).values()
    assert found["consistency"] < 1.0 - 1e-5


def test_of_a_long_prompt_the_first_seconds_count(model: Path, make_speech: MakeSpeech) -> None:
    measure = AcousticConsistency(model)
    speech = make_speech(9.0)
    short, long = (measure.score(clip_of(speech, seconds)) for seconds in (3.0, 6.0))
    assert short["prompt_embedding"] == pytest.approx(long["prompt_embedding"], abs=1e-5)
    assert short["crop_embeddings"][1] == pytest.approx(long["crop_embeddings"][0], abs=1e-5)


def test_what_is_too_short_is_a_failure(model: Path, make_speech: MakeSpeech) -> None:
    measure = AcousticConsistency(model)
    speech = make_speech(3.5)
    with pytest.raises(RowFailure, match=r"its prompt lasts 0\.50 s"):
        measure.score(clip_of(speech, 0.5))
    with pytest.raises(RowFailure, match=r"what follows its prompt lasts 0\.50 s"):
        measure.score(clip_of(speech))
    with pytest.raises(RowFailure, match=r"what follows its prompt lasts 0\.00 s"):
        measure.score(clip_of(speech, 5.0))
    assert not measure.applies(clip_of(speech, 0.0))


HAND: dict[str, Scores] = {
    "a": {
        "prompt_embedding": [1.0, 0.0],
        "crop_embeddings": [[0.6, 0.8], [1.0, 0.0]],
        "seconds": [1.5, 4.5],
    },
    "b": {
        "prompt_embedding": [0.0, 2.0],
        "crop_embeddings": [[0.0, 1.0], [0.8, 0.6]],
        "seconds": [1.5, 4.5],
    },
    "c": {
        "prompt_embedding": [0.6, 0.8],
        "crop_embeddings": [[0.6, 0.8]],
        "seconds": [0.75],
    },
}


def test_similarities_and_retrieval_by_hand(model: Path) -> None:
    """b's prompt (0, 1) is nearer to c's last crop (0.6, 0.8) than to its own (0.8, 0.6)."""
    found = AcousticConsistency(model).compare(HAND, {})
    assert found["a"]["consistency_curve"] == pytest.approx([0.6, 1.0])
    assert found["a"]["consistency"] == pytest.approx(0.8)
    assert found["b"]["consistency_curve"] == pytest.approx([1.0, 0.6])
    assert [found[name]["consistency_retrieval"] for name in "abc"] == [1, 0, 1]
    assert found["b"]["consistency_other"] == pytest.approx((0.0 + 0.8) / 2)
    assert found["a"]["consistency_chance"] == pytest.approx(1 / 3)


def test_the_curve_is_of_whole_crops(model: Path) -> None:
    measure = AcousticConsistency(model)
    curve = measure.curve(measure.compare(HAND, {}))
    assert curve is not None
    assert curve.seconds == [1.5, 4.5]
    assert curve.median == pytest.approx([0.8, 0.8])
    assert curve.low == pytest.approx([0.7, 0.7])
    assert curve.high == pytest.approx([0.9, 0.9])
    assert curve.utterances == [2, 2]  # c is too short
    assert measure.curve({}) is None


def test_models_of_other_rates_and_kinds_are_refused(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", sample_rate=8_000)
    with pytest.raises(DataMismatch, match="hears 8000 Hz, and everything is judged at 16000"):
        AcousticConsistency(folder)
    with pytest.raises(DataMismatch, match="is no model"):
        AcousticConsistency(tmp_path)


def test_a_rerun_embeds_nothing_and_says_the_same(
    model: Path, make_speech: MakeSpeech, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(2):
        speech = make_speech(10.0, seed=index)
        soundfile.write(tmp_path / f"u{index}.wav", speech, SAMPLE_RATE)
    paths = {f"u{index}": str(tmp_path / f"u{index}.wav") for index in range(2)}
    task = Task(
        utterances={name: Utterance(id=name) for name in paths},
        systems=[SoundFiles("speech", paths)],
        recordings=None,
        prompt_seconds=3.0,
    )
    embedded: list[int] = []
    honest = AcousticConsistency._embed

    def counted(measure: AcousticConsistency, crops: list[NDArray[np.float32]]) -> object:
        embedded.append(len(crops))
        return honest(measure, crops)

    monkeypatch.setattr(AcousticConsistency, "_embed", counted)
    results = []
    for _ in range(2):
        with ScoreCache(tmp_path) as cache:
            found = compare(task, select(task), [AcousticConsistency(model)], cache)
        results.append(document(found, None, settings={}, skipped={}))
    assert embedded == [3, 3]
    assert results[0] == results[1]
    curve = results[0]["curves"]["consistency"]
    assert curve["seconds"] == [1.5, 4.5]
    assert curve["systems"]["speech"]["utterances"] == [2, 2]
    assert results[0]["systems"]["speech"]["consistency_chance"]["value"] == 0.5
    assert "consistency_curve" in found.scores["speech"]["u0"]
    assert "prompt_embedding" not in found.scores["speech"]["u0"]


def test_the_shipped_model_is_the_default(tmp_path: Path) -> None:
    shipped = [
        choose_measures(["consistency"], None, consistency=model) for model in (None, "mini")
    ]
    own, _ = choose_measures(["consistency"], None, consistency=str(save_model(tmp_path / "own")))
    fingerprints = [measure.settings["model"] for (measure,), _ in shipped]
    assert fingerprints[0] == fingerprints[1] != own[0].settings["model"]
    with pytest.raises(DataMismatch, match="nowhere is no model"):
        choose_measures(None, None, consistency=str(tmp_path / "nowhere"))


def test_recordings_are_judged_from_the_command_line(
    model: Path, make_speech: MakeSpeech, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, seconds in enumerate((6.5, 9.0, 3.5)):
        speech = make_speech(seconds, seed=index)
        soundfile.write(tmp_path / f"u{index}.wav", speech, SAMPLE_RATE)
    with pytest.raises(SystemExit) as end:
        run(
            ["eval", str(tmp_path), "--measures", "consistency", "--consistency", str(model),
             "--prompt-seconds", "3", "--json"]
        )  # fmt: skip
    assert end.value.code == 1
    streams = capsys.readouterr()
    assert "u2: recordings: consistency: what follows its prompt lasts 0.50 s" in streams.err
    assert "retrieval % ↑" in streams.err
    result = json.loads(streams.out)
    found = result["systems"]["recordings"]
    assert found["consistency"]["utterances"] == 2
    assert found["consistency_chance"]["value"] == 0.5
    curve = result["curves"]["consistency"]
    assert curve["seconds"] == [1.5, 4.5]
    assert curve["systems"]["recordings"]["utterances"] == [2, 1]
