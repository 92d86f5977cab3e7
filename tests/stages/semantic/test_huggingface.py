"""w2v-BERT 2.0 and HuBERT in Hugging Face's format, on small random models on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.errors import DataMismatch
from stages.semantic.encoders.registry import load_encoder

transformers = pytest.importorskip("transformers", reason="transformers is an optional extra")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(params=["w2v-bert", "hubert"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Any, Any]:
    """The folder of a random model as `save_pretrained` writes it, the model, its extractor."""
    sizes = {
        "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
        "intermediate_size": 32,
    }  # fmt: skip
    torch.manual_seed(0)
    if request.param == "w2v-bert":
        config = transformers.Wav2Vec2BertConfig(**sizes, conv_depthwise_kernel_size=5)
        model = transformers.Wav2Vec2BertModel(config)
        extractor = transformers.SeamlessM4TFeatureExtractor()
    else:
        config = transformers.HubertConfig(
            **sizes, conv_dim=[16] * 7, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2
        )
        model = transformers.HubertModel(config)
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    return tmp_path, model.eval(), extractor


def test_it_equals_the_library_at_a_layer(
    saved: tuple[Path, Any, Any], make_speech: Callable[..., np.ndarray]
) -> None:
    folder, model, extractor = saved
    speech = make_speech(0.71, seed=3)
    inputs = extractor(speech, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**inputs, output_hidden_states=True).hidden_states
    encoder = load_encoder(f"hf:{folder}")
    assert encoder.name == f"hf:{folder}:2"  # two thirds of three layers
    assert encoder.frame_rate == 50
    frames = encoder.encode(torch.from_numpy(speech)[None], torch.tensor([len(speech)]))
    count = int(frames.lengths[0])
    assert count == pytest.approx(0.71 * 50, abs=2)
    torch.testing.assert_close(frames.values[0], hidden[2][0, :count], rtol=1e-5, atol=1e-6)


def test_a_row_in_a_batch_is_the_row_alone(
    saved: tuple[Path, Any, Any], make_speech: Callable[..., np.ndarray]
) -> None:
    encoder = load_encoder(f"hf:{saved[0]}", layer=1)
    batch = torch.zeros(2, 8_000)
    lengths = torch.tensor([8_000, 4_500])
    batch[0] = torch.from_numpy(make_speech(0.5))
    batch[1, :4_500] = torch.from_numpy(make_speech(0.5, seed=2))[:4_500]
    together = encoder.encode(batch, lengths)
    alone = encoder.encode(batch[1:, :4_500], lengths[1:])
    count = int(together.lengths[1])
    torch.testing.assert_close(together.values[1, :count], alone.values[0], rtol=0, atol=0)


def test_what_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataMismatch, match="cannot be loaded") as caught:
        load_encoder(f"hf:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_names_go_through_fairseq2(
    saved: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loader, with the download that it begins with replaced by the folder."""
    from stages.semantic.encoders.fairseq2 import start_fairseq2

    start_fairseq2()
    from fairseq2.models.hg import factory

    folder = saved[0]
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(factory, "_get_model_path", lambda config: folder)
    monkeypatch.setattr(Path, "is_dir", lambda path: False)
    by_name = load_encoder(f"hf:{folder.name}", layer=2)
    monkeypatch.undo()
    assert by_name.fingerprint == load_encoder(f"hf:{folder}", layer=2).fingerprint
