"""WavLM x-vectors in Hugging Face's format, on a tiny random model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.errors import DataMismatch, RowFailure
from stages.evaluation.measure import SAMPLE_RATE
from stages.evaluation.speakers import wavlm
from stages.evaluation.speakers.registry import load_speaker_encoder

transformers = pytest.importorskip("transformers", reason="WavLM needs the hf extra")

SPEECH = np.random.default_rng(0).standard_normal(SAMPLE_RATE // 2).astype(np.float32) / 10


def save_model(folder: Path, seed: int) -> Path:
    config = transformers.WavLMConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8, 8, 8), conv_stride=(5, 8, 8), conv_kernel=(10, 8, 8),
        num_feat_extract_layers=3, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        tdnn_dim=(8, 8, 16), tdnn_kernel=(3, 3, 1), tdnn_dilation=(1, 2, 1), xvector_output_dim=12,
    )  # fmt: skip
    torch.manual_seed(seed)
    transformers.WavLMForXVector(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def test_an_embedding_is_the_models_own_as_a_unit_vector(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "one", seed=0)
    encoder = load_speaker_encoder(f"wavlm:{folder}")
    embedding = encoder.embed(SPEECH)
    assert embedding.shape == (12,)
    assert np.linalg.norm(embedding) == pytest.approx(1.0, abs=1e-5)
    model = transformers.WavLMForXVector.from_pretrained(folder).eval()
    normal = (SPEECH - SPEECH.mean()) / np.sqrt(SPEECH.var() + 1e-7)
    with torch.inference_mode():
        own = model(torch.from_numpy(normal)[None]).embeddings[0].numpy()
    assert own @ embedding / np.linalg.norm(own) == pytest.approx(1.0, abs=1e-4)


def test_the_fingerprint_is_of_the_weights(tmp_path: Path) -> None:
    one, same, other = (
        load_speaker_encoder(f"wavlm:{save_model(tmp_path / name, seed)}").fingerprint
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    assert one == same
    assert one != other
    assert load_speaker_encoder("wavlm:microsoft/x").fingerprint == "microsoft/x"


def test_silence_is_no_voice(tmp_path: Path) -> None:
    encoder = load_speaker_encoder(f"wavlm:{save_model(tmp_path / 'one', seed=0)}")
    with pytest.raises(RowFailure, match="silent"):
        encoder.embed(np.zeros(SAMPLE_RATE, dtype=np.float32))


def test_what_is_no_model_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataMismatch, match=r"it has no config\.json"):
        load_speaker_encoder(f"wavlm:{tmp_path}")
    with pytest.raises(DataMismatch, match="is no WavLM speaker encoder"):
        load_speaker_encoder("wavlm:./nowhere")
    damaged = save_model(tmp_path / "damaged", seed=0)
    (damaged / "model.safetensors").write_bytes(b"none")
    with pytest.raises(DataMismatch, match="cannot be loaded"):
        load_speaker_encoder(f"wavlm:{damaged}").embed(SPEECH)
    for name in ("wavlm", "wavlm:", "x-vector"):
        with pytest.raises(DataMismatch, match=f"there is no speaker encoder {name}: use resembl"):
            load_speaker_encoder(name)
    monkeypatch.setattr(wavlm, "find_spec", lambda name: None)
    with pytest.raises(DataMismatch, match=r"pip install 'soundstorm\[hf\]'"):
        load_speaker_encoder("wavlm:microsoft/x")
