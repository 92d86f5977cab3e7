"""The log-mel encoder, and fewer frames a second from any encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch

from stages.errors import DataMismatch
from stages.semantic.encoders.logmel import LogMelEncoder, LogMelEncoderConfig, slope
from stages.semantic.encoders.reduced import ReducedEncoder
from stages.semantic.encoders.registry import load_encoder


def encode(samples: np.ndarray) -> torch.Tensor:
    wave = torch.from_numpy(samples)[None]
    return LogMelEncoder().encode(wave, torch.tensor([wave.shape[1]])).values[0]


@pytest.mark.parametrize("samples", [400, 640, 641, 16_000, 16_123])
def test_fifty_frames_a_second(samples: int) -> None:
    encoder = LogMelEncoder()
    frames = encoder.encode(torch.randn(1, samples), torch.tensor([samples]))
    assert frames.lengths.tolist() == [math.ceil(samples / 320)]
    assert frames.values.shape == (1, math.ceil(samples / 320), encoder.dim)
    assert encoder.frame_rate == 50


def test_level_and_channel_drop_out(make_speech: Callable[..., np.ndarray]) -> None:
    speech = make_speech(2.0, seed=5)
    plain = encode(speech)
    torch.testing.assert_close(encode(0.25 * speech), plain, rtol=1e-3, atol=2e-3)
    # A microphone that boosts treble moves every frame alike, and the mean takes it out again.
    coloured = np.convolve(speech, [1.0, -0.5])[: len(speech)].astype(np.float32)
    spread = (plain - plain.mean(dim=0)).square().mean()
    assert (encode(coloured) - plain).square().mean() < 0.1 * spread


def test_silence_and_short_noise_are_finite() -> None:
    for samples in (np.zeros(16_000, np.float32), np.ones(400, np.float32)):
        assert torch.isfinite(encode(samples)).all()


def test_a_row_alone_is_the_row_in_a_batch(make_speech: Callable[..., np.ndarray]) -> None:
    short = make_speech(0.7, seed=6)
    batch = torch.zeros(2, 16_000)
    batch[0] = torch.from_numpy(make_speech(1.0, seed=7))
    batch[1, : len(short)] = torch.from_numpy(short)
    frames = LogMelEncoder().encode(batch, torch.tensor([16_000, len(short)]))
    alone = encode(short)
    assert int(frames.lengths[1]) == len(alone)
    torch.testing.assert_close(frames.values[1, : len(alone)], alone, rtol=1e-4, atol=1e-4)


def test_the_slope_of_a_line_is_its_slope() -> None:
    line = 3.0 * torch.arange(20.0)[:, None]
    torch.testing.assert_close(slope(line)[3:-3], torch.full((14, 1), 3.0))


def test_settings_are_part_of_the_fingerprint() -> None:
    assert LogMelEncoder().fingerprint == LogMelEncoder().fingerprint
    other = LogMelEncoder(LogMelEncoderConfig(cepstra=12))
    assert other.fingerprint != LogMelEncoder().fingerprint
    with pytest.raises(DataMismatch):
        LogMelEncoderConfig(cepstra=60)


@pytest.mark.parametrize("samples", [16_000, 16_200, 500])
def test_reducing_to_25_hz(make_speech: Callable[..., np.ndarray], samples: int) -> None:
    speech = torch.from_numpy(make_speech(2.0))[:samples][None]
    lengths = torch.tensor([samples])
    every = LogMelEncoder().encode(speech, lengths).values[0]
    halved = {}
    for reduction in ("mean", "drop"):
        encoder = load_encoder("logmel", rate=Fraction(25), reduction=reduction)
        frames = encoder.encode(speech, lengths)
        assert encoder.frame_rate == 25
        assert frames.lengths.tolist() == [math.ceil(len(every) / 2)]
        halved[reduction] = frames.values[0]
    torch.testing.assert_close(halved["drop"], every[::2])
    torch.testing.assert_close(halved["mean"][0], every[:2].mean(dim=0))
    torch.testing.assert_close(halved["mean"][-1], every[len(every) // 2 * 2 - 2 :].mean(dim=0)
                               if len(every) % 2 == 0 else every[-1])  # fmt: skip


def test_reduced_padding_does_not_leak() -> None:
    encoder = load_encoder("logmel", rate=Fraction(25))
    batch = torch.randn(2, 16_000)
    lengths = torch.tensor([16_000, 960])  # three frames of 20 ms
    frames = encoder.encode(batch, lengths)
    alone = encoder.encode(batch[1:, :960], lengths[1:])
    assert frames.lengths.tolist() == [25, 2]
    torch.testing.assert_close(frames.values[1, :2], alone.values[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rate", [Fraction(30), Fraction(75), Fraction(0)])
def test_rates_that_do_not_divide_are_refused(rate: Fraction) -> None:
    with pytest.raises(DataMismatch, match="cannot be brought to"):
        ReducedEncoder(LogMelEncoder(), rate=rate, reduction="mean")


def test_unknown_encoders_and_layers_are_refused() -> None:
    with pytest.raises(DataMismatch, match="there is no semantic encoder nonsense"):
        load_encoder("nonsense")
    with pytest.raises(DataMismatch, match="no layers"):
        load_encoder("logmel", layer=3)
