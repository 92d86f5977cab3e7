"""Log-mel: frame count, alignment, independence of the batch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from stages.audio.features import LogMel, LogMelConfig
from stages.errors import DataMismatch


@pytest.mark.parametrize("hop", [160, 320, 333])
@pytest.mark.parametrize("samples", [1, 319, 320, 321, 16_000])
def test_frames_are_the_samples_over_the_hop_rounded_up(hop: int, samples: int) -> None:
    mel = LogMel(LogMelConfig(hop=hop, mels=40))
    values, lengths = mel(torch.zeros(1, samples), torch.tensor([samples]))
    assert lengths.tolist() == [math.ceil(samples / hop)]
    assert values.shape == (1, math.ceil(samples / hop), 40)


def test_frame_t_is_centred_on_its_own_samples() -> None:
    mel = LogMel(LogMelConfig(mels=40))
    samples = torch.zeros(1, 3200)
    samples[0, 5 * 320 + 160] = 1.0  # the middle of frame 5
    magnitudes = mel.magnitudes(samples, torch.tensor([3200])).sum(dim=-1)[0]
    assert int(magnitudes.argmax()) == 5
    torch.testing.assert_close(magnitudes[4], magnitudes[6], rtol=1e-3, atol=1e-3)


def test_a_row_does_not_see_its_neighbours(make_speech: Callable[..., np.ndarray]) -> None:
    mel = LogMel(LogMelConfig())
    long = torch.from_numpy(make_speech(1.0, seed=3))
    short = torch.from_numpy(make_speech(0.61, seed=4))
    batch = torch.full((2, 16_000), 7.0)  # what is past a row's length must not matter
    batch[0] = long
    batch[1, : len(short)] = short
    values, lengths = mel(batch, torch.tensor([len(long), len(short)]))
    alone, alone_lengths = mel(short[None], torch.tensor([len(short)]))
    assert lengths[1] == alone_lengths[0]
    torch.testing.assert_close(values[1, : lengths[1]], alone[0], rtol=1e-5, atol=1e-5)


def test_bands_agree_with_torchaudio(make_speech: Callable[..., np.ndarray]) -> None:
    from torchaudio.transforms import MelSpectrogram

    samples = torch.from_numpy(make_speech(0.5))[None]
    config = LogMelConfig(mels=80)
    ours, _ = LogMel(config)(samples, torch.tensor([samples.shape[1]]))
    reference = MelSpectrogram(
        16_000, n_fft=1024, hop_length=320, n_mels=80, power=1.0, center=False, norm="slaney",
        mel_scale="slaney",
    )  # fmt: skip
    padded = torch.nn.functional.pad(samples, (352, 352))
    theirs = reference(padded).clamp_min(config.floor).log().transpose(1, 2)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{"hop": 0}, {"window": 100}, {"fft": 512}, {"low": 9000.0}, {"mels": 0}]
)
def test_impossible_geometries_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(DataMismatch):
        LogMelConfig(**options)


def test_empty_bands_are_refused() -> None:
    with pytest.raises(DataMismatch, match="too many"):
        LogMel(LogMelConfig(window=400, fft=400, mels=200))
