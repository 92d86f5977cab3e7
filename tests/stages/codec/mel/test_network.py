"""The mel codec's network: independence of rows, what training does, what a config refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from stages.codec.mel.config import MelCodecConfig, VocoderConfig
from stages.codec.mel.network import MelCodec, normalise_mel, restore_mel
from stages.errors import DataMismatch


def ragged(
    make_speech: Callable[..., Any], first_seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = (9_000, 16_000, 4_001)
    samples = torch.zeros(3, 16_000)
    for row, length in enumerate(lengths):
        samples[row, :length] = torch.from_numpy(make_speech(1.0, seed=first_seed + row)[:length])
    return samples, torch.tensor(lengths)


@pytest.fixture
def network(tiny_config: MelCodecConfig, make_speech: Callable[..., Any]) -> MelCodec:
    torch.manual_seed(0)
    network = MelCodec(tiny_config)
    network.quantizer.start(network.frames_to_quantise(*ragged(make_speech)))
    return network.eval()


def test_a_row_does_not_feel_its_batch(network: MelCodec, make_speech: Callable[..., Any]) -> None:
    samples, lengths = ragged(make_speech)
    codes, frames = network.encode(samples, lengths)
    assert frames.tolist() == [29, 50, 13]
    mel = network.decode(codes, frames)
    for row, (length, count) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
        alone, _ = network.encode(samples[row : row + 1, :length], lengths[row : row + 1])
        assert torch.equal(alone[0], codes[row, :count])
        sound = network.decode(alone, frames[row : row + 1])
        torch.testing.assert_close(sound[0], mel[row, :count], atol=1e-5, rtol=0)


def test_padding_is_not_in_the_loss(network: MelCodec, make_speech: Callable[..., Any]) -> None:
    samples, lengths = ragged(make_speech)
    loss, metrics = network.loss(samples, lengths)
    longer = torch.cat([samples, torch.ones(3, 3_200)], dim=1)
    same, same_metrics = network.loss(longer, lengths)
    torch.testing.assert_close(loss, same)
    assert metrics["frames"] == same_metrics["frames"] == 29 + 50 + 13


def test_through_is_encode_then_decode(network: MelCodec, make_speech: Callable[..., Any]) -> None:
    samples, lengths = ragged(make_speech)
    mel, frames = network.through(samples, lengths, 2)
    codes, _ = network.encode(samples, lengths, 2)
    assert torch.equal(mel, network.decode(codes, frames))


def test_it_starts_as_a_plain_quantiser_of_mel_frames(
    network: MelCodec, make_speech: Callable[..., Any]
) -> None:
    samples, lengths = ragged(make_speech)
    codes, frames = network.encode(samples, lengths)
    mel, _ = network.log_mel(samples, lengths)
    assert torch.equal(codes, network.quantizer.encode(normalise_mel(mel)))
    plain = restore_mel(network.quantizer.decode(codes))
    torch.testing.assert_close(network.decode(codes, frames), plain)


def test_the_decoder_learns_to_mend_and_the_codes_stay(
    tiny_config: MelCodecConfig, make_speech: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    # Codes this coarse leave much to mend.
    network = MelCodec(replace(tiny_config, levels=1, codebook_size=4))
    batches = [ragged(make_speech, first_seed) for first_seed in range(10, 40, 3)]
    frames = torch.cat([network.frames_to_quantise(*batch) for batch in batches])
    network.quantizer.start(frames, torch.Generator().manual_seed(0))
    codebooks = network.quantizer.codebooks.clone()
    unheard = ragged(make_speech, 50)
    before = network.loss(*unheard)[0].item()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step in range(100):
        loss, _ = network.loss(*batches[step % len(batches)])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert network.loss(*unheard)[0].item() < 0.95 * before
    assert torch.equal(network.quantizer.codebooks, codebooks)


@pytest.mark.parametrize(
    "wrong",
    [
        {"levels": 0}, {"codebook_size": 1}, {"codebook_size": 1 << 17}, {"kernel": 4},
        {"blocks": 0}, {"window": 100},
    ],
)  # fmt: skip
def test_a_codec_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataMismatch):
        MelCodecConfig(**wrong)


def test_configurations_survive_json_and_refuse_what_they_do_not_know() -> None:
    for config in (MelCodecConfig(levels=3), VocoderConfig(blocks=2)):
        assert type(config).from_json(config.to_json(), where="here") == config
    with pytest.raises(DataMismatch, match="here sets depth, which is none of"):
        MelCodecConfig.from_json({"depth": 3}, where="here")
    with pytest.raises(DataMismatch, match="here sets levels to 'many': it must be a whole"):
        MelCodecConfig.from_json({"levels": "many"}, where="here")
    with pytest.raises(DataMismatch, match="does not fit a hop of 320"):
        VocoderConfig(fft=1000)
