"""Mel frames to samples: the inverse transform, alignment, Griffin-Lim, a short training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from stages.audio.features import LogMel
from stages.codec.mel.config import MelGeometry, VocoderConfig
from stages.codec.mel.griffin_lim import GriffinLim
from stages.codec.mel.losses import (
    Balancer,
    SpectralLoss,
    adversarial_losses,
    build_discriminators,
    discriminator_loss,
)
from stages.codec.mel.vocoder import InverseSTFT, Vocoder

TINY = VocoderConfig(width=32, hidden=32, blocks=1, kernel=3, mels=40, fft=640)


@pytest.mark.parametrize("fft", [640, 1280, 960])
def test_the_inverse_undoes_the_transform(fft: int) -> None:
    samples = torch.randn(2, 320 * 9)
    edge = (fft - 320) // 2
    spectrum = torch.stft(
        F.pad(samples, (edge, edge)), fft, 320, window=torch.hann_window(fft), center=False,
        return_complex=True,
    ).transpose(1, 2)  # fmt: skip
    assert spectrum.shape[1] == 9
    # At the very edge of two-fold overlap the window is nothing, and so is what is known.
    inner = slice(edge, -edge)
    torch.testing.assert_close(
        InverseSTFT(fft, 320)(spectrum, torch.ones(2, 9, 1))[:, inner],
        samples[:, inner],
        atol=1e-4,
        rtol=0,
    )


def test_a_row_does_not_feel_its_batch() -> None:
    torch.manual_seed(0)
    vocoder = Vocoder(TINY).eval()
    mel, frames = torch.randn(2, 12, 40) - 5, torch.tensor([12, 7])
    with torch.no_grad():
        together = vocoder(mel, frames)
        alone = vocoder(mel[1:, :7])
    assert together.shape == (2, 12 * 320)
    torch.testing.assert_close(together[1, : 7 * 320], alone[0], atol=1e-5, rtol=0)
    assert not together[1, 7 * 320 :].any()


def test_griffin_lim_keeps_length_place_and_mel_frames(make_speech: Callable[..., Any]) -> None:
    geometry = MelGeometry()
    griffin_lim, log_mel = GriffinLim(geometry), LogMel(geometry.log_mel)
    samples = torch.from_numpy(make_speech(1.0))[None]
    mel, frames = log_mel(samples, torch.tensor([16_000]))
    state = torch.get_rng_state()
    heard = griffin_lim(mel, frames)
    assert torch.equal(state, torch.get_rng_state())
    assert heard.shape == samples.shape
    again, _ = log_mel(heard, torch.tensor([16_000]))
    assert (again - mel).abs().mean() < 0.2
    # A shift by half a frame would be heard as a worse match of frames.
    late, _ = log_mel(F.pad(heard, (160, 0))[:, :16_000], torch.tensor([16_000]))
    assert (again - mel).abs().mean() < 0.5 * (late - mel).abs().mean()
    assert torch.equal(heard, griffin_lim(mel, frames))


def test_griffin_lim_takes_one_frame_and_silence() -> None:
    griffin_lim = GriffinLim(MelGeometry())
    floor = torch.full((2, 3, 100), -11.5)
    heard = griffin_lim(floor, torch.tensor([1, 3]))
    assert heard.shape == (2, 3 * 320)
    assert heard.abs().max() < 1e-2
    assert not heard[0, 320:].any()


def test_spectral_loss_is_of_real_frames_only(make_speech: Callable[..., Any]) -> None:
    loss = SpectralLoss(16_000)
    real = torch.from_numpy(make_speech(0.5))[None]
    length = torch.tensor([real.shape[1]])
    same = loss(real, real, length)
    assert max(float(value) for value in same.values()) == 0
    noise = 0.1 * torch.randn_like(real)
    apart = loss(real, real + noise, length)
    assert min(float(value) for value in apart.values()) > 0.01
    padded = loss(F.pad(real, (0, 999)), F.pad(real + noise, (0, 999), value=3.0), length)
    for name, value in apart.items():
        torch.testing.assert_close(padded[name], value)


def test_balanced_gradients_have_the_shares_of_their_weights() -> None:
    output = torch.randn(4, 50, requires_grad=True)
    balancer = Balancer({"large": 3.0, "small": 1.0})
    directions = torch.randn(2, 50)
    losses = {
        "large": 1e4 * (output @ directions[0]).mean(),
        "small": 1e-4 * (output @ directions[1]).mean(),
    }
    balancer(losses, output).backward()
    units = directions / directions.norm(dim=1, keepdim=True)
    expected = (0.75 * units[0] + 0.25 * units[1]) / 4
    torch.testing.assert_close(output.grad[0], expected)
    resumed = Balancer({"large": 3.0, "small": 1.0})
    resumed.load_state_dict(balancer.state_dict())
    assert resumed.norm_large == balancer.norm_large > 0


def test_the_balancer_shares_among_those_that_are_there() -> None:
    output = torch.randn(2, 10, requires_grad=True)
    balancer = Balancer({"mel": 1.0, "adversarial": 9.0})
    balancer({"mel": output.sum(dim=1).mean()}, output).backward()
    torch.testing.assert_close(output.grad.norm(dim=1) * 2, torch.ones(2))


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_the_balancer_forgets_a_norm_that_is_no_number(factor: float) -> None:
    output = torch.randn(2, 10, requires_grad=True)
    fresh = Balancer({"mel": 1.0, "magnitude": 1.0})
    losses = {"mel": output.sum(dim=1).mean(), "magnitude": output.square().mean()}
    broken = {**losses, "mel": losses["mel"] * factor}
    fresh(broken, output)
    assert fresh.norm_mel == 0
    fresh(losses, output)
    before = fresh.norm_mel.clone()
    assert not fresh(broken, output).isfinite()  # the loop is to see it
    assert fresh.norm_mel == before > 0
    assert fresh(losses, output).isfinite()


def test_a_short_training_brings_the_spectra_closer(make_speech: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    vocoder, log_mel = Vocoder(TINY), LogMel(TINY.log_mel)
    loss, balancer = SpectralLoss(16_000, ((512, 40),)), Balancer({"mel": 2.0, "magnitude": 1.0})
    optimiser = torch.optim.Adam(vocoder.parameters(), lr=5e-3)
    samples = torch.from_numpy(make_speech(1.0)).reshape(2, 8_000)
    lengths = torch.tensor([8_000, 8_000])
    mel, _ = log_mel(samples, lengths)
    course = []
    for _ in range(40):
        made = vocoder(mel)
        terms = loss(samples, made, lengths)
        optimiser.zero_grad()
        balancer(terms, made).backward()
        optimiser.step()
        course.append(terms["mel"].item())
    assert course[-1] < 0.6 * course[0]


@pytest.mark.filterwarnings("error")
def test_discriminators_and_their_losses_push_apart_and_together() -> None:
    torch.manual_seed(0)
    discriminators = build_discriminators(filters=4, sizes=(256, 128))
    real, made = torch.randn(2, 1, 2_000), 0.1 * torch.randn(2, 1, 2_000)
    optimiser = torch.optim.Adam(discriminators.parameters(), lr=1e-2)
    course = []
    for _ in range(12):
        loss = discriminator_loss(discriminators(real)[0], discriminators(made)[0])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        course.append(loss.item())
    assert course[-1] < 0.5 * course[0]
    logits, made_maps = discriminators(made.requires_grad_())
    real_maps = discriminators(real)[1]
    losses = adversarial_losses(logits, real_maps, made_maps)
    assert losses["adversarial"].item() > 1.0  # they see through it
    sum(losses.values()).backward()
    assert made.grad.abs().sum() > 0
    itself = adversarial_losses(logits, real_maps, real_maps)
    assert itself["features"].item() == 0.0
