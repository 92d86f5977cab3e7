"""HuBERT and WavLM of torchaudio, on small random weights in the real format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio
from safetensors.torch import save_file

from stages.errors import DataMismatch
from stages.semantic.encoders.registry import load_encoder

SIZES = {
    "extractor_conv_layer_config": [(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16, 2, 2)] * 2,
    "encoder_embed_dim": 16, "encoder_num_layers": 3, "encoder_num_heads": 2,
    "encoder_ff_interm_features": 32, "encoder_pos_conv_kernel": 8, "encoder_pos_conv_groups": 2,
}  # fmt: skip
SMALL = ("hubert_base", "hubert_large", "wavlm_base", "wavlm_large")


@pytest.fixture(params=SMALL)
def small(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Path, Any, bool]:
    """A bundle shrunk, the file of its random weights, the model, whether it normalises."""
    name = request.param
    bundle = getattr(torchaudio.pipelines, name.upper())
    shrunk = replace(bundle, _params={**bundle._params, **SIZES})
    monkeypatch.setattr(torchaudio.pipelines, name.upper(), shrunk)
    torch.manual_seed(0)
    build = torchaudio.models.wavlm_model if "wavlm" in name else torchaudio.models.wav2vec2_model
    model = build(**shrunk._params).eval()
    path = tmp_path / "weights.pt"
    torch.save(model.state_dict(), path)
    return name, path, model, bundle._normalize_waveform


def test_it_equals_the_library_at_every_layer(
    small: tuple[str, Path, Any, bool], make_speech: Callable[..., np.ndarray]
) -> None:
    name, path, model, normalised = small
    speech = torch.from_numpy(make_speech(0.7, seed=9))[None]
    inputs = torch.nn.functional.layer_norm(speech, speech.shape) if normalised else speech
    with torch.inference_mode():
        expected, _ = model.extract_features(inputs)
    for layer in (1, 3):
        encoder = load_encoder(f"{name}:{path}", layer=layer)
        frames = encoder.encode(speech, torch.tensor([speech.shape[1]]))
        torch.testing.assert_close(frames.values, expected[layer - 1], rtol=0, atol=0)
        assert encoder.name == f"{name}:{layer}"
        assert encoder.frame_rate == 50


def test_a_row_in_a_batch_is_the_row_alone(
    small: tuple[str, Path, Any, bool], make_speech: Callable[..., np.ndarray]
) -> None:
    name, path, _, _ = small
    encoder = load_encoder(f"{name}:{path}")
    batch = torch.zeros(2, 12_000)
    lengths = torch.tensor([12_000, 5_000])
    batch[0] = torch.from_numpy(make_speech(0.75))
    batch[1, :5_000] = torch.from_numpy(make_speech(0.5))[:5_000]
    together = encoder.encode(batch, lengths)
    alone = encoder.encode(batch[1:, :5_000], lengths[1:])
    count = int(together.lengths[1])
    assert count == alone.values.shape[1] == 15
    torch.testing.assert_close(together.values[1, :count], alone.values[0], rtol=0, atol=0)


def test_safetensors_are_the_same_weights(small: tuple[str, Path, Any, bool]) -> None:
    name, path, model, _ = small
    other = path.with_suffix(".safetensors")
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, other)
    one, two = load_encoder(f"{name}:{path}"), load_encoder(f"{name}:{other}")
    assert one.fingerprint == two.fingerprint


def test_weights_that_do_not_fit_are_one_sentence(
    small: tuple[str, Path, Any, bool], tmp_path: Path
) -> None:
    name, path, model, _ = small
    state = model.state_dict()
    state.popitem()
    torch.save(state, path)
    (tmp_path / "text.pt").write_text("no weights")
    for file in (path, tmp_path / "text.pt", tmp_path / "missing.pt"):
        with pytest.raises(DataMismatch, match="cannot be loaded") as caught:
            load_encoder(f"{name}:{file}")
        assert "\n" not in str(caught.value)
