"""The student: its sums, its windows against their labels, and what it learns."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from stages.errors import DataMismatch
from stages.semantic.encoders.registry import load_encoder
from stages.semantic.student import NO_TOKEN, Student, StudentConfig, load_student, save_student
from stages.shards.spec import TokenSpec
from stages.training.speech import SpeechLabels, SpeechReader, SpeechSet
from stages.training.windows import Window

CONFIG = StudentConfig(layers=2, heads=2, width=16, feed_forward=32, tokens=5, dropout=0.0)


def spec(rate: Fraction = Fraction(25)) -> TokenSpec:
    return TokenSpec(
        kind="semantic", name="teacher", fingerprint="f", frame_rate=rate, codebook_size=5
    )


def test_the_loss_is_over_real_frames_alone(make_speech: Callable[..., np.ndarray]) -> None:
    torch.manual_seed(0)
    network = Student(CONFIG).eval()
    samples = torch.from_numpy(make_speech(0.8, seed=1))[None]
    tokens = torch.randint(5, (1, 20))
    alone = network.loss(samples, torch.tensor([12_800]), tokens, None)
    assert int(alone.frames) == 20
    padded = torch.nn.functional.pad(samples, (0, 6_400))
    pair = network.loss(
        torch.cat([padded, torch.cat([samples, samples[:, :6_400]], dim=1)]),
        torch.tensor([12_800, 19_200]),
        torch.stack(
            [
                torch.nn.functional.pad(tokens[0], (0, 10), value=NO_TOKEN),
                torch.full((30,), NO_TOKEN),
            ]
        ),
        None,
    )
    assert int(pair.frames) == 20
    torch.testing.assert_close(pair.loss, alone.loss, rtol=1e-5, atol=1e-5)


def test_windows_begin_where_a_label_does(tmp_path: Path) -> None:
    # Sample n holds n / 2 ** 15, and label i is i: a window and its labels must tell the same.
    path = tmp_path / "ramp.wav"
    ramp = np.arange(16_000, dtype=np.int16)
    soundfile.write(path, ramp, 16_000, subtype="PCM_16")
    speech = SpeechSet(
        paths=[str(path)],
        speakers=[None],
        seconds=np.array([1.0]),
        fingerprint="f",
        labels=SpeechLabels(tokens=[np.arange(25, dtype=np.uint16)], spec=spec()),
    )
    reader = SpeechReader(speech, 16_000)
    for start, length in ((0, 640), (700, 3_000), (1_279, 641), (15_000, 1_000)):
        window = Window(example=0, start=start, length=length, seed=0)
        batch = reader.batch([window], seed=0)
        assert batch.labels is not None
        first = round(float(batch.samples[0, 0]) * 2**15)
        assert first == start - start % 640
        assert int(batch.labels[0, 0]) == first // 640
        assert batch.labels.shape[1] == min(-(-length // 640), 25 - first // 640)


def test_a_rate_that_does_not_divide_the_samples_is_refused() -> None:
    speech = SpeechSet(
        paths=["a"], speakers=[None], seconds=np.array([1.0]), fingerprint="f",
        labels=SpeechLabels(tokens=[np.zeros(1, np.uint16)], spec=spec(Fraction(75))),
    )  # fmt: skip
    with pytest.raises(DataMismatch, match="75 semantic tokens a second do not fit"):
        SpeechReader(speech, 16_000)


def test_a_saved_student_is_an_encoder_by_its_last_layer(
    tmp_path: Path, make_speech: Callable[..., np.ndarray]
) -> None:
    torch.manual_seed(1)
    network = Student(CONFIG).eval()
    save_student(tmp_path / "s", config=CONFIG, weights=network.state_dict())
    again, _ = load_student(tmp_path / "s")
    assert again.config == CONFIG
    encoder = load_encoder(str(tmp_path / "s"))
    assert (encoder.name, encoder.frame_rate, encoder.dim) == ("student:2", 25, 16)
    samples = torch.from_numpy(make_speech(0.5, seed=2))[None]
    frames = encoder.encode(samples, torch.tensor([8_000]))
    with torch.inference_mode():
        features, counts = network.features(samples, torch.tensor([8_000]))
        expected = network(features, counts)
    torch.testing.assert_close(frames.values, expected)
    assert load_encoder(str(tmp_path / "s"), layer=1).fingerprint != encoder.fingerprint


def test_a_head_that_starts_from_clusters_finds_the_nearest() -> None:
    torch.manual_seed(2)
    network = Student(CONFIG)
    centroids = torch.randn(5, 12) + 7.0
    network.start_head(centroids, torch.Generator().manual_seed(0))
    # What lies at a cluster's place in the width is named as that cluster.
    weight, bias = network.head.weight, network.head.bias
    places = weight.detach() / 8.0
    assert torch.equal((places @ weight.T + bias).argmax(dim=1), torch.arange(5))
    # Distances between rows are those of the clusters, up to one scale.
    ratio = torch.pdist(weight.detach()) / torch.pdist(centroids)
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=1e-4)
    assert float(weight.detach().norm(dim=1).mean()) == pytest.approx(8.0, rel=1e-5)
