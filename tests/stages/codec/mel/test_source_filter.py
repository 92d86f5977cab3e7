"""Mel frames to samples by pulses and noise: place, harmonics, and the pitch that is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.audio.features import LogMel
from stages.codec.mel.config import MelGeometry, SourceFilterConfig
from stages.codec.mel.griffin_lim import GriffinLim
from stages.codec.mel.pitch import STEP, PitchNetwork, candidates
from stages.codec.mel.postfilter import postfilter
from stages.codec.mel.source_filter import SourceFilter, _pulses
from stages.errors import DataMismatch

TINY = SourceFilterConfig(width=16, hidden=32, blocks=1, kernel=3)
RATE = 16_000


def spoken_at(monkeypatch: pytest.MonkeyPatch, hertz: float, *, sure: float = 20.0) -> SourceFilter:
    """A source-filter that takes every frame for a voice of that pitch."""
    model = SourceFilter(TINY).eval()

    def tell(mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        points = 2 * mel.shape[1]
        distance = (model.pitch.log_pitches - torch.tensor(hertz).log()) / STEP
        logits = -distance.square().expand(1, points, -1) / 2
        return logits, torch.full((1, points), sure)

    monkeypatch.setattr(model.pitch, "forward", tell)
    return model


def steady_voice(hertz: float, seconds: float) -> Tensor:
    """`[N]` of harmonics that fall by 6 dB an octave."""
    time = torch.arange(int(seconds * RATE)) / RATE
    numbers = torch.arange(1, int(7_900 / hertz) + 1)
    waves = torch.sin(2 * torch.pi * hertz * numbers[:, None] * time + numbers[:, None].float())
    return 0.1 * (waves / numbers[:, None]).sum(dim=0)


def likeness_a_period_later(samples: Tensor, hertz: float) -> float:
    """Correlation of samples from 2 kHz on with themselves, a period of whole samples later."""
    spectrum = torch.fft.rfft(samples)
    spectrum[: len(samples) * 2_000 // RATE] = 0
    high = torch.fft.irfft(spectrum, n=len(samples))
    period = round(RATE / hertz)
    return float(F.cosine_similarity(high[:-period], high[period:], dim=0))


def test_pulses_are_the_sum_of_their_harmonics() -> None:
    pitch = torch.linspace(90, 230, 4_000).double()
    turns = (pitch / RATE).cumsum(0)
    count = (0.494 * RATE / pitch).floor()
    sums = sum(
        (number <= count) * torch.cos(2 * torch.pi * number * turns)
        for number in range(1, int(count.max()) + 1)
    )
    torch.testing.assert_close(_pulses(pitch, RATE), sums * (2 / count).sqrt(), atol=1e-6, rtol=0)


def test_a_pulse_on_a_sample_is_a_number() -> None:
    pulses = _pulses(torch.full((640,), 100.0).double(), RATE)
    assert pulses.isfinite().all()
    assert pulses.abs().argmax() % 160 == 159  # turns are whole there


def test_it_keeps_length_place_and_mel_frames(make_speech: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model, log_mel = SourceFilter(TINY).eval(), LogMel(TINY.log_mel)
    samples = torch.from_numpy(make_speech(1.0))[None]
    mel, frames = log_mel(samples, torch.tensor([RATE]))
    state = torch.get_rng_state()
    heard = model(mel, frames)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(heard, model(mel, frames))
    assert heard.shape == samples.shape
    wanted = postfilter(mel[0])[None]
    again, _ = log_mel(heard, torch.tensor([RATE]))
    assert (again - wanted).abs().mean() < 0.5
    for shift in (-160, 160):  # half a frame, either way, is a worse match
        moved, _ = log_mel(F.pad(heard, (shift, -shift)), torch.tensor([RATE]))
        assert (again - wanted).abs().mean() < 0.9 * (moved - wanted).abs().mean()


def test_a_row_does_not_feel_its_batch() -> None:
    torch.manual_seed(0)
    model = SourceFilter(TINY).eval()
    mel, frames = torch.randn(3, 12, 100) - 5, torch.tensor([12, 7, 0])
    together = model(mel, frames)
    assert together.shape == (3, 12 * 320)
    assert torch.equal(together[1, : 7 * 320], model(mel[1:2, :7], torch.tensor([7]))[0])
    assert not together[1, 7 * 320 :].any()
    assert not together[2].any()


def test_it_takes_one_frame_and_silence() -> None:
    heard = SourceFilter(TINY).eval()(torch.full((2, 3, 100), -11.5), torch.tensor([1, 3]))
    assert heard.shape == (2, 3 * 320)
    assert heard.isfinite().all()
    assert heard.abs().max() < 1e-2
    assert not heard[0, 320:].any()


@pytest.mark.parametrize("hertz", [80.0, 125.0])
def test_harmonics_are_where_mel_bands_cannot_tell_them(
    monkeypatch: pytest.MonkeyPatch, hertz: float
) -> None:
    samples = steady_voice(hertz, 1.0)
    mel, frames = LogMel(TINY.log_mel)(samples[None], torch.tensor([len(samples)]))
    voiced = spoken_at(monkeypatch, hertz)(mel, frames)[0]
    guessed = GriffinLim(MelGeometry())(mel, frames)[0]
    middle = slice(2_000, -2_000)
    assert likeness_a_period_later(samples[middle], hertz) > 0.98
    assert likeness_a_period_later(voiced[middle], hertz) > 0.75
    assert likeness_a_period_later(guessed[middle], hertz) < 0.5


def test_turns_leave_the_bottom_of_a_voice_its_pulses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rough frames, after which turns alone make phases wander (0.4 rad and more)."""
    torch.manual_seed(0)
    hertz = 125.0
    mel, frames = LogMel(TINY.log_mel)(steady_voice(hertz, 1.0)[None], torch.tensor([RATE]))
    model = spoken_at(monkeypatch, hertz)
    heard = model(mel + torch.randn(mel.shape), frames)[0, 2_000:-2_000]
    turns = (torch.arange(2_000, RATE - 2_000) + 1 + model.bands.edge) * hertz / RATE
    numbers = torch.arange(1, 6)  # up to 625 Hz
    waves = torch.polar(torch.ones(5, len(heard)), -2 * torch.pi * numbers[:, None] * turns)
    phases = (waves * heard).unflatten(1, (-1, 400)).mean(dim=2).angle()  # every 25 ms
    assert (phases.abs().mean(dim=1) < 0.3).all()


def test_where_no_voice_is_there_are_no_pulses(monkeypatch: pytest.MonkeyPatch) -> None:
    mel, frames = torch.full((1, 50, 100), -4.0), torch.tensor([50])
    hissed = spoken_at(monkeypatch, 150.0, sure=-20.0)(mel, frames)[0]
    buzzed = spoken_at(monkeypatch, 150.0)(mel, frames)[0]
    assert likeness_a_period_later(hissed, 150.0) < 0.3 < likeness_a_period_later(buzzed, 150.0)


def test_the_pitch_is_the_mean_about_the_likeliest() -> None:
    network = PitchNetwork(TINY)
    assert len(network.log_pitches) == candidates(TINY) == 142
    wanted = torch.tensor([61.0, 100.0, 207.3, 480.0])
    distance = (network.log_pitches - wanted[:, None].log()) / STEP
    found = network.pitch(-distance.square() / 2)
    torch.testing.assert_close(found[1:3], wanted[1:3], atol=0.1, rtol=1e-3)
    assert ((found / wanted).log().abs() < 0.04).all()  # those at an end lean inwards
    far = -distance.square() / 2
    far[1, 120] = far[1].max() - 0.1  # another peak, nearly as likely, draws nothing
    torch.testing.assert_close(network.pitch(far)[1], found[1])


def test_the_pitch_is_as_sure_as_its_neighbours_are_likely() -> None:
    network = PitchNetwork(TINY)
    logits = torch.full((2, 142), -30.0)
    logits[:, 50:53] = 0.0
    logits[1, 90:93] = -1e-3  # two pitches, one of which is hardly likelier
    found = network.sureness(logits)
    assert found[0].item() == pytest.approx(1, abs=1e-5)
    assert found[1].item() == pytest.approx(0.5, abs=1e-3)


def test_the_loss_is_nothing_at_the_truth_and_finite_without_a_voice() -> None:
    network = PitchNetwork(TINY)
    truth = torch.tensor([0.0, 120.0, 233.0])
    distance = (network.log_pitches - truth.clamp_min(1)[:, None].log()) / STEP
    sure = torch.tensor([-20.0, 20.0, 20.0])
    choice, voicing = network.losses(-distance.square() / 2, sure, truth)
    assert choice.item() == pytest.approx(0, abs=1e-5)
    assert voicing.item() == pytest.approx(0, abs=1e-5)
    choice, voicing = network.losses(distance, sure, torch.zeros(3))
    assert choice.item() == 0
    assert voicing.item() > 10


def test_it_learns_the_pitch_of_voices() -> None:
    torch.manual_seed(0)
    network = PitchNetwork(SourceFilterConfig(width=48, hidden=96, blocks=2, kernel=3))
    log_mel = LogMel(TINY.log_mel)
    pitches = torch.linspace(80, 320, 24)
    voices = torch.stack([steady_voice(float(hertz), 0.4) for hertz in pitches])
    mel = log_mel(voices, torch.full((24,), voices.shape[1]))[0]
    mask = torch.ones(24, mel.shape[1], 1)
    truth = pitches[:, None].expand(24, 2 * mel.shape[1]).reshape(-1)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(120):
        logits, voicing = network(mel, mask)
        choice, cross = network.losses(logits.flatten(0, 1), voicing.flatten(), truth)
        optimiser.zero_grad()
        (choice + cross).backward()
        optimiser.step()
    logits, voicing = network(mel, mask)
    off = (network.pitch(logits.flatten(0, 1)) / truth).log().abs()
    assert off.median() < 0.01
    assert (voicing > 0).float().mean() > 0.99


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "must all be at least 1"),
        ({"kernel": 4}, "has no middle"),
        ({"hop": 321}, "are odd"),
        ({"lowest": 400.0}, "none to choose from"),
        ({"highest": 5_000.0}, "none to choose from"),
    ],
)
def test_what_is_no_source_filter_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataMismatch, match=message):
        SourceFilterConfig(**changes)
