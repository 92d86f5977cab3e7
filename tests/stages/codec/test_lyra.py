"""Google's published SoundStream, where its files and their runtime are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.audio.reading import read_audio
from stages.codec.base import AcousticTokens, AudioBatch
from stages.codec.lyra import LyraCodec
from stages.codec.single import encode_samples, encode_waveform, reconstruct
from stages.codec.workers import encoding_team
from stages.errors import DataMismatch, RowFailure

MakeSpeech = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    pytest.importorskip("ai_edge_litert", reason="the lyra extra is not installed")
    return shared / "models" / "lyra"


@pytest.fixture(scope="module")
def lyra(folder: Path) -> LyraCodec:
    return LyraCodec(folder, bitrate=3.0)


def test_geometry(lyra: LyraCodec) -> None:
    assert (lyra.levels, lyra.codebook_size, lyra.frame_rate, lyra.hop) == (15, 16, 50, 320)


def test_an_utterance_does_not_feel_the_one_before_it(
    lyra: LyraCodec, make_speech: MakeSpeech
) -> None:
    first, second = make_speech(0.7, seed=1), make_speech(0.5, seed=2)
    samples = torch.zeros(2, 1, len(first))
    samples[0, 0], samples[1, 0, : len(second)] = torch.tensor(first), torch.tensor(second)
    lengths = torch.tensor([len(first), len(second)])
    tokens = lyra.encode(AudioBatch(samples=samples, lengths=lengths))
    assert tokens.lengths.tolist() == [35, 25]
    np.testing.assert_array_equal(tokens.codes[1, :25], encode_samples(lyra, second[None]))
    sound = lyra.decode(tokens)
    alone = lyra.decode(AcousticTokens(codes=tokens.codes[1:, :25], lengths=torch.tensor([25])))
    assert torch.equal(sound.samples[1, :, : 25 * 320], alone.samples[0])
    assert not sound.samples[1, :, 25 * 320 :].any()


def test_fewer_levels_are_the_first_ones(
    lyra: LyraCodec, folder: Path, make_speech: MakeSpeech
) -> None:
    speech = make_speech(0.3)[None]
    all_levels = LyraCodec(folder)
    assert all_levels.levels == 46
    assert all_levels.fingerprint == lyra.fingerprint
    np.testing.assert_array_equal(
        encode_samples(all_levels, speech)[:, :15], encode_samples(lyra, speech)
    )


def test_speech_comes_back_aligned(lyra: LyraCodec, make_speech: MakeSpeech) -> None:
    speech = make_speech(1.0)
    heard = reconstruct(lyra, speech[None])[0]
    assert heard.shape == speech.shape
    agreement = {
        shift: float(np.dot(heard[640 + shift : 15_000 + shift], speech[640:15_000]))
        for shift in (-320, -160, -80, 0, 80, 160, 320)
    }
    assert max(agreement, key=agreement.__getitem__) == 0


@pytest.mark.integration
def test_worker_processes_give_the_same_rows_in_order(lyra: LyraCodec, corpus: Path) -> None:
    paths = [str(path) for path in sorted(corpus.rglob("*.*")) if path.suffix != ".tsv"]
    paths.insert(2, str(corpus / "missing.wav"))
    team = encoding_team(lyra)
    results = list(team.map(paths, workers=2))
    team.end()
    assert [index for index, _ in results] == list(range(len(paths)))
    assert isinstance(results[2][1], RowFailure)
    for index, encoded in results:
        if not isinstance(encoded, RowFailure):
            waveform = read_audio(paths[index], sample_rate=16_000, channels=1)
            np.testing.assert_array_equal(encoded.codes, encode_waveform(lyra, waveform).codes)


def test_a_file_that_is_no_model_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite"):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(DataMismatch, match="is no TFLite model"):
        LyraCodec(tmp_path)
    quantizer = (folder / "quantizer.tflite").read_bytes()
    for name in ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite"):
        (tmp_path / name).write_bytes(quantizer)
    with pytest.raises(DataMismatch, match="are not those of Lyra V2"):
        LyraCodec(tmp_path)


def test_without_the_runtime_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(DataMismatch, match=r"pip install 'soundstorm\[lyra\]'"):
        LyraCodec(folder)


def test_a_frames_entries_add_up_to_its_features(lyra: LyraCodec) -> None:
    codebooks = lyra.codebooks()
    assert codebooks.shape == (15, 16, 64)
    assert float(codebooks.std(dim=1).mean(dim=1).diff().max()) < 0.3  # coarse to fine
    codes = torch.randint(16, (15,))
    indices = np.full((46, 1, 1), -1, np.int32)
    indices[:15, 0, 0] = codes
    total = codebooks[torch.arange(15), codes].sum(dim=0)
    torch.testing.assert_close(total, torch.from_numpy(lyra._features(indices)))
