"""The bottleneck: what it is taught by, its sums, and the encoder that it becomes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.errors import DataMismatch
from stages.semantic.bottleneck import (
    SPEAKER,
    BottleneckConfig,
    load_bottleneck,
    save_bottleneck,
)
from stages.semantic.encoders.registry import load_encoder
from stages.semantic.spoken_bottleneck import SpokenBottleneck
from stages.semantic.whisper_ear import WhisperMel, load_ear
from tests.tiny_whisper import LAYERS, MELS, WIDTH, tiny_whisper

CONFIG = BottleneckConfig(layers=1, heads=2, width=16, feed_forward=16, dim=3, dropout=0.0)
WHISPER = Path(os.environ.get("SOUNDSTORM_WHISPER", "assets-cache/whisper-tiny"))


@pytest.mark.skipif(
    not WHISPER.is_dir(), reason=f"no Whisper in {WHISPER}: make whisper fetches it"
)
def test_the_ear_hears_what_whisper_hears(make_speech: Callable[..., np.ndarray]) -> None:
    faster_whisper = pytest.importorskip("faster_whisper", reason="it is in the extra `eval`")
    model = faster_whisper.WhisperModel(str(WHISPER), compute_type="float32", cpu_threads=1)
    samples = make_speech(3.0, seed=1)
    theirs = model.feature_extractor(samples, padding=0)[:, :300]
    ours = WhisperMel()(torch.from_numpy(samples)[None])
    np.testing.assert_allclose(ours[0].numpy().T, theirs, atol=1e-4)
    whole = np.array(model.encode(np.ascontiguousarray(theirs, np.float32)))
    heard = load_ear(WHISPER)(ours)[-1]
    np.testing.assert_allclose(heard.numpy(), whole, atol=5e-3)


def test_the_ear_gives_each_block_and_passes_gradients_on(tmp_path: Path) -> None:
    ear = load_ear(tiny_whisper(tmp_path))
    levels = torch.randn(2, 30, MELS, requires_grad=True)
    heard = ear(levels)
    assert [tuple(block.shape) for block in heard] == [(2, 15, WIDTH)] * LAYERS
    heard[-1].square().sum().backward()
    assert levels.grad is not None
    assert bool((levels.grad != 0).any(dim=-1).all())
    assert not list(ear.parameters())  # nothing of it is trained


def test_another_model_is_no_ear(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(40))
    with pytest.raises(DataMismatch, match="holds no Whisper model"):
        load_ear(tmp_path)


def test_a_rows_loss_is_over_its_own_frames(
    tmp_path: Path, make_speech: Callable[..., np.ndarray]
) -> None:
    torch.manual_seed(0)
    ear = load_ear(tiny_whisper(tmp_path))
    network = SpokenBottleneck(CONFIG, mels=MELS).eval()
    samples = torch.from_numpy(make_speech(1.0, seed=1))[None]
    short = samples[:, :9_600]
    alone = network.loss(short, torch.tensor([9_600]), ear=ear, hearing_weight=0, generator=None)
    other = network.loss(samples, torch.tensor([16_000]), ear=ear, hearing_weight=0, generator=None)
    both = network.loss(
        torch.cat([torch.nn.functional.pad(short, (0, 6_400)), samples]),
        torch.tensor([9_600, 16_000]),
        ear=ear,
        hearing_weight=0,
        generator=None,
    )
    assert [int(sums.frames) for sums in (alone, other, both)] == [60, 100, 160]
    torch.testing.assert_close(both.mel, alone.mel + other.mel, rtol=1e-4, atol=1e-3)
    assert torch.equal(both.loss.detach(), both.mel)


def test_what_is_heard_weighs_and_noise_is_the_seeds(
    tmp_path: Path, make_speech: Callable[..., np.ndarray]
) -> None:
    torch.manual_seed(0)
    ear = load_ear(tiny_whisper(tmp_path))
    network = SpokenBottleneck(CONFIG, mels=MELS).eval()
    samples, lengths = torch.from_numpy(make_speech(1.0, seed=1))[None], torch.tensor([16_000])

    def sums(seed: int | None, weight: float) -> tuple[float, float, float]:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        found = network.loss(samples, lengths, ear=ear, hearing_weight=weight, generator=generator)
        return float(found.loss.detach()), float(found.mel), float(found.heard)

    loss, mel, heard = sums(1, 3.0)
    assert loss == pytest.approx(mel + 3 * heard, rel=1e-5)
    assert heard > 0
    assert sums(1, 3.0) == (loss, mel, heard)
    assert sums(2, 3.0)[1] != mel
    assert sums(None, 3.0)[1] != mel


def test_a_saved_bottleneck_is_an_encoder_of_points(
    tmp_path: Path, make_speech: Callable[..., np.ndarray]
) -> None:
    torch.manual_seed(1)
    network = SpokenBottleneck(CONFIG).eval()
    folder = tmp_path / "b"
    save_bottleneck(folder, config=CONFIG, weights=network.state_dict())
    again, file = load_bottleneck(folder)
    assert again.config == CONFIG
    assert not any(name.startswith(SPEAKER) for name in file.weights)
    encoder = load_encoder(str(folder))
    assert (encoder.name, encoder.frame_rate, encoder.dim) == ("bottleneck", 25, 3)
    samples = torch.from_numpy(make_speech(0.5, seed=2))[None]
    lengths = torch.tensor([8_000])
    frames = encoder.encode(samples, lengths)
    with torch.inference_mode():
        points, counts = network.points(samples, lengths)
    torch.testing.assert_close(frames.values, points)
    assert torch.equal(frames.lengths, counts)
    assert float(points.abs().max()) < 1
    with pytest.raises(DataMismatch, match="leave --layer out"):
        load_encoder(str(folder), layer=1)


def test_shapes_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataMismatch, match="noise between 0 and 2"):
        replace(CONFIG, noise_width=2.5)
    with pytest.raises(DataMismatch, match="at 16000 Hz"):
        replace(CONFIG, sample_rate=24_000)
