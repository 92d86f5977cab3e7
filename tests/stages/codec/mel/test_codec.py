"""Our codec behind the interface of all codecs, from model folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from stages.assets import model_folder
from stages.codec.base import AcousticTokens, AudioBatch
from stages.codec.mel import codec as codec_module
from stages.codec.mel import source_filter
from stages.codec.mel.codec import MelRVQCodec
from stages.codec.mel.config import SourceFilterConfig, VocoderConfig
from stages.codec.mel.griffin_lim import GriffinLim
from stages.codec.mel.model import (
    load_mel_codec,
    load_source_filter,
    save_codec,
    save_source_filter,
    save_vocoder,
)
from stages.codec.mel.postfilter import postfilter
from stages.codec.mel.source_filter import SourceFilter
from stages.codec.mel.vocoder import Vocoder
from stages.errors import DataMismatch


@pytest.mark.parametrize("vocoder", [None, "griffin-lim"])
def test_rows_of_a_ragged_batch_are_as_alone(tiny_codec: Path, vocoder: str | None) -> None:
    codec = MelRVQCodec(tiny_codec, vocoder=vocoder)
    lengths = torch.tensor([5_000, 1_281])
    samples = 0.1 * torch.randn(2, 1, 5_000)
    together = codec.encode(AudioBatch(samples=samples, lengths=lengths))
    assert together.lengths.tolist() == [16, 5]
    alone = codec.encode(AudioBatch(samples=samples[1:, :, :1_281], lengths=lengths[1:]))
    assert torch.equal(together.codes[1, :5], alone.codes[0])
    assert not together.codes[1, 5:].any()
    sound = codec.decode(together)
    assert sound.lengths.tolist() == [16 * 320, 5 * 320]
    assert torch.equal(sound.samples[1, :, :1_600], codec.decode(alone).samples[0])


def test_fewer_levels_are_the_first_ones_and_more_are_refused(tiny_codec: Path) -> None:
    audio = AudioBatch(samples=0.1 * torch.randn(1, 1, 3_200), lengths=torch.tensor([3_200]))
    three, two = MelRVQCodec(tiny_codec), MelRVQCodec(tiny_codec, bitrate=0.5)
    assert (three.levels, two.levels) == (3, 2)
    assert torch.equal(three.encode(audio).codes[..., :2], two.encode(audio).codes)
    too_many = AcousticTokens(
        codes=torch.zeros(1, 2, 4, dtype=torch.int64), lengths=torch.tensor([2])
    )
    with pytest.raises(DataMismatch, match="has 3 levels, and these tokens 4"):
        three.decode(too_many)


def test_a_frames_entries_add_up_to_what_was_quantised(tiny_codec: Path) -> None:
    codec = MelRVQCodec(tiny_codec, levels=2)
    codebooks = codec.codebooks()
    assert codebooks.shape == (2, 32, 20)
    codes = torch.randint(32, (1, 5, 2))
    total = codebooks[0][codes[0, :, 0]] + codebooks[1][codes[0, :, 1]]
    torch.testing.assert_close(total, load_mel_codec(tiny_codec)[0].quantizer.decode(codes)[0])


def test_tokens_outlive_their_vocoder(tiny_codec: Path) -> None:
    own, plain = MelRVQCodec(tiny_codec), MelRVQCodec(tiny_codec, vocoder="griffin-lim")
    named = MelRVQCodec(tiny_codec, vocoder=str(tiny_codec / "vocoder"))
    assert own.fingerprint == plain.fingerprint
    assert own.spec == plain.spec
    assert own.decoder_fingerprint == named.decoder_fingerprint != plain.decoder_fingerprint


def test_tokens_outlive_their_decoder(tiny_codec: Path, tmp_path: Path) -> None:
    network, _ = load_mel_codec(tiny_codec)
    weights = dict(network.state_dict())
    weights["decoder.last.bias"] = weights["decoder.last.bias"] + 0.1
    save_codec(tmp_path / "mended", config=network.config, weights=weights)
    weights["quantizer.codebooks"] = weights["quantizer.codebooks"] + 0.1
    save_codec(tmp_path / "other", config=network.config, weights=weights)
    before, mended, other = (
        MelRVQCodec(folder, vocoder="griffin-lim")
        for folder in (tiny_codec, tmp_path / "mended", tmp_path / "other")
    )
    assert before.fingerprint == mended.fingerprint != other.fingerprint
    assert before.models == mended.models
    assert before.decoder_fingerprint != mended.decoder_fingerprint


def test_griffin_lim_speaks_filtered_frames_or_plain_ones(tiny_codec: Path) -> None:
    filtered, plain = (
        MelRVQCodec(tiny_codec, vocoder=name) for name in ("griffin-lim", "plain-griffin-lim")
    )
    assert filtered.decoder_fingerprint != plain.decoder_fingerprint
    codes = torch.randint(32, (1, 8, 3))
    tokens = AcousticTokens(codes=codes, lengths=torch.tensor([8]))
    network, _ = load_mel_codec(tiny_codec)
    frames = torch.tensor([8])
    mel = network.decode(codes, frames)
    speak = GriffinLim(network.config.geometry)
    assert torch.equal(plain.decode(tokens).samples[:, 0], speak(mel, frames))
    assert torch.equal(
        filtered.decode(tokens).samples[:, 0], speak(postfilter(mel[0])[None], frames)
    )


def test_without_a_vocoder_inside_it_is_griffin_lim(tiny_codec: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(tiny_codec, folder, ignore=shutil.ignore_patterns("vocoder"))
    plain = MelRVQCodec(tiny_codec, vocoder="griffin-lim")
    assert MelRVQCodec(folder).decoder_fingerprint == plain.decoder_fingerprint


def test_fingerprints_tell_how_a_source_filter_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    before = MelRVQCodec(model_folder("mini", "codec"))
    monkeypatch.setattr(codec_module, "FORM", (*source_filter.FORM, "other"))
    after = MelRVQCodec(model_folder("mini", "codec"))
    assert before.decoder_fingerprint != after.decoder_fingerprint
    assert before.fingerprint == after.fingerprint
    own = {
        name: value
        for name, value in vars(source_filter).items()
        if name.isupper() and isinstance(value, int | float) and name != "POINTS"
    }
    assert len(own) == 9
    assert sorted(source_filter.FORM) == sorted(own.values())


def test_a_source_filter_inside_speaks_frames_as_they_are(tiny_codec: Path, tmp_path: Path) -> None:
    folder = tmp_path / "voiced"
    shutil.copytree(tiny_codec, folder, ignore=shutil.ignore_patterns("vocoder"))
    network, _ = load_mel_codec(tiny_codec)
    torch.manual_seed(0)
    config = SourceFilterConfig(width=8, hidden=8, blocks=1, mels=network.config.mels)
    weights = SourceFilter(config).pitch.state_dict()
    save_source_filter(folder / "vocoder", config=config, weights=weights)
    inside = MelRVQCodec(folder)
    named = MelRVQCodec(tiny_codec, vocoder=str(folder / "vocoder"))
    plain = MelRVQCodec(tiny_codec, vocoder="griffin-lim")
    assert inside.decoder_fingerprint == named.decoder_fingerprint != plain.decoder_fingerprint
    assert inside.fingerprint == plain.fingerprint
    codes, frames = torch.randint(32, (1, 8, 3)), torch.tensor([8])
    made = inside.decode(AcousticTokens(codes=codes, lengths=frames)).samples[:, 0]
    speak, _ = load_source_filter(folder / "vocoder")
    assert torch.equal(made, speak(network.decode(codes, frames), frames))


def test_a_vocoder_of_other_mel_frames_is_refused(tiny_codec: Path, tmp_path: Path) -> None:
    config = VocoderConfig(width=8, hidden=8, blocks=1, mels=30, fft=640)
    save_vocoder(tmp_path, config=config, weights=Vocoder(config).state_dict())
    with pytest.raises(DataMismatch, match="is for other mel frames"):
        MelRVQCodec(tiny_codec, vocoder=str(tmp_path))


def test_weights_of_another_shape_are_refused(tiny_codec: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(tiny_codec, folder)
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"levels": 3', '"levels": 4'))
    with pytest.raises(DataMismatch, match="do not fit its config"):
        MelRVQCodec(folder)
