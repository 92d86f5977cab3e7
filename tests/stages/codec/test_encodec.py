"""Our EnCodec against the package's own, on random checkpoints in its real format."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.codec.base import AcousticTokens, AudioBatch
from stages.codec.encodec import LOUDNESS, EncodecCodec
from stages.errors import DataMismatch


def random_model(name: str) -> Any:
    """The package's network with random weights and random codes."""
    from encodec import EncodecModel

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make: Callable[..., Any] = getattr(EncodecModel, name.replace("_", "_model_"))
        model = make(pretrained=False)
    for layer in model.quantizer.vq.layers:
        layer._codebook.embed.normal_()
        layer._codebook.inited.fill_(1)
    return model


@pytest.fixture(scope="module", params=["encodec_24khz", "encodec_48khz"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, EncodecCodec]:
    model = random_model(request.param)
    checkpoint = tmp_path_factory.mktemp("encodec") / "checkpoint.th"
    torch.save(model.state_dict(), checkpoint)
    return model, EncodecCodec(request.param, checkpoint=checkpoint, bitrate=6.0)


@pytest.mark.parametrize("length", [1, 320, 321, 5_000])
def test_tokens_and_samples_are_the_packages_own(
    both: tuple[Any, EncodecCodec], length: int
) -> None:
    model, codec = both
    samples = 0.1 * torch.randn(1, codec.channels, length)
    model.set_target_bandwidth(6.0)
    with torch.no_grad():
        ((codes, scale),) = model.encode(samples)
        if scale is not None:
            scale = torch.full_like(scale, LOUDNESS)
        sound = model.decode([(codes, scale)])
    tokens = codec.encode(AudioBatch(samples=samples, lengths=torch.tensor([length])))
    torch.testing.assert_close(tokens.codes[0], codes[0].T, rtol=0, atol=0)
    assert tokens.lengths.tolist() == [-(-length // 320)]
    audio = codec.decode(tokens)
    torch.testing.assert_close(audio.samples, sound, rtol=0, atol=1e-6)
    assert audio.lengths.tolist() == [tokens.lengths.item() * 320]


def test_rows_of_a_ragged_batch_are_as_alone(both: tuple[Any, EncodecCodec]) -> None:
    _, codec = both
    lengths = torch.tensor([3_000, 1_000])
    samples = 0.1 * torch.randn(2, codec.channels, 3_000)
    together = codec.encode(AudioBatch(samples=samples, lengths=lengths))
    alone = codec.encode(AudioBatch(samples=samples[1:, :, :1_000], lengths=lengths[1:]))
    assert torch.equal(together.codes[1, :4], alone.codes[0])
    assert not together.codes[1, 4:].any()
    sound = codec.decode(together)
    assert torch.equal(sound.samples[1, :, : 4 * 320], codec.decode(alone).samples[0])


def test_geometry_and_levels(both: tuple[Any, EncodecCodec]) -> None:
    model, codec = both
    assert codec.codebook_size == 1024
    if codec.sample_rate == 24_000:
        assert (codec.frame_rate, codec.channels, codec.levels) == (75, 1, 8)
    else:
        assert (codec.frame_rate, codec.channels, codec.levels) == (150, 2, 4)
    codes = torch.zeros(1, 3, model.quantizer.n_q + 1, dtype=torch.int64)
    with pytest.raises(DataMismatch, match="levels"):
        codec.decode(AcousticTokens(codes=codes, lengths=torch.tensor([3])))


def test_the_same_weights_are_the_same_codec_and_others_are_not(
    both: tuple[Any, EncodecCodec], tmp_path: Path
) -> None:
    model, codec = both
    name = codec.name.split(":")[0]
    weights = dict(model.state_dict())
    torch.save(weights, tmp_path / "copy.th")
    assert EncodecCodec(name, checkpoint=tmp_path / "copy.th").fingerprint == codec.fingerprint
    key = next(key for key in weights if key.endswith("embed"))
    weights[key] = weights[key] + 1
    torch.save(weights, tmp_path / "other.th")
    assert EncodecCodec(name, checkpoint=tmp_path / "other.th").fingerprint != codec.fingerprint


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    text, wrong, empty = tmp_path / "text.th", tmp_path / "wrong.th", tmp_path / "empty.th"
    text.write_text("not a checkpoint")
    torch.save({"weight": torch.zeros(3)}, wrong)
    empty.touch()
    for path in (text, wrong, empty):
        with pytest.raises(DataMismatch, match="is no checkpoint of encodec_24khz") as refused:
            EncodecCodec("encodec_24khz", checkpoint=path)
        assert "\n" not in str(refused.value)


def test_a_frames_entries_add_up_to_what_was_quantised(both: tuple[Any, EncodecCodec]) -> None:
    model, codec = both
    codebooks = codec.codebooks()  # [Q, 1024, 128]
    assert len(codebooks) == codec.levels
    codes = torch.randint(1024, (5, codec.levels))
    total = codebooks[torch.arange(codec.levels), codes].sum(dim=1)  # [5, 128]
    with torch.no_grad():
        expected = model.quantizer.decode(codes.T[:, None])  # [1, 128, 5]
    torch.testing.assert_close(total, expected[0].T)
