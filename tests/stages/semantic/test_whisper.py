"""Whisper's encoder: what can be asked without a model, and its frames where there is one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.errors import DataMismatch
from stages.semantic.encoders.registry import load_encoder

pytest.importorskip("faster_whisper", reason="faster-whisper is in the extra `eval`")

FOLDER = Path(os.environ.get("SOUNDSTORM_WHISPER", "assets-cache/whisper-tiny"))


@pytest.mark.parametrize(
    ("spec", "layer", "sentence"),
    [
        ("whisper:", None, "say which Whisper"),
        ("whisper:base", 3, "its last layer only"),
        ("whisper:/nowhere/at/all", None, "cannot be loaded"),
    ],
)
def test_refusals(spec: str, layer: int | None, sentence: str) -> None:
    with pytest.raises(DataMismatch, match=sentence):
        load_encoder(spec, layer=layer)


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no Whisper in {FOLDER}: make whisper fetches it")
def test_frames_of_a_real_one(make_speech: Callable[..., np.ndarray]) -> None:
    from faster_whisper import WhisperModel

    encoder = load_encoder(f"whisper:{FOLDER}")
    speech = torch.from_numpy(make_speech(1.33, seed=4))
    pair = torch.zeros(2, 31 * 16_000)
    pair[0, : len(speech)] = speech
    pair[1] = 0.01 * torch.randn(31 * 16_000, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([len(speech), 31 * 16_000])
    frames = encoder.encode(pair, lengths)
    assert frames.lengths.tolist() == [67, 31 * 50]  # past 30 s: a second window
    alone = encoder.encode(speech[None], lengths[:1])
    assert torch.equal(alone.values[0], frames.values[0, :67])
    # As the library has it, of the same speech with half a second of silence after it.
    model = WhisperModel(str(FOLDER), compute_type="int8", cpu_threads=1)
    padded = np.pad(speech.numpy(), (0, 67 * 320 - len(speech) + 8_000))
    mel = model.feature_extractor(padded, padding=0)
    whole = np.array(model.encode(np.ascontiguousarray(mel[:, :184])), np.float32)
    np.testing.assert_allclose(alone.values[0].numpy(), whole[0, :67], rtol=1e-4, atol=1e-4)
