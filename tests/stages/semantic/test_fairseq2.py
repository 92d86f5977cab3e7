"""fairseq2's encoders, on small random checkpoints in the real formats."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.errors import DataMismatch
from stages.semantic.encoders.fairseq2 import load_fairseq2, start_fairseq2
from stages.semantic.encoders.registry import load_encoder

CONVOLUTIONS = [(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16, 2, 2)] * 2
SMALL = {
    "model_dim": 16, "feature_dim": 16, "num_encoder_layers": 3, "num_encoder_attn_heads": 2,
    "ffn_inner_dim": 32,
}  # fmt: skip
CONVOLUTIONAL = {
    **SMALL, "feature_extractor_layer_descs": CONVOLUTIONS, "pos_conv_kernel_size": 8,
    "num_pos_conv_groups": 2,
}  # fmt: skip
PRE_NORM = {
    **CONVOLUTIONAL, "layer_norm_features": False, "feature_extractor_bias": True,
    "feature_extractor_layer_norm_convs": True, "layer_drop_p": 0.0,
}  # fmt: skip
FBANK = {**SMALL, "feature_dim": 160, "depthwise_conv_kernel_size": 5}


def card(folder: Path, family: str, arch: str, config: dict[str, Any]) -> Path:
    from ruamel.yaml import YAML

    path = folder / f"{family}.yaml"
    document = {
        "name": f"small_{family}", "model_family": family, "model_arch": arch,
        "model_config": config, "checkpoint": "model.pt",
    }  # fmt: skip
    with path.open("w") as file:
        YAML(typ="safe").dump(document, file)
    return path


def saved(folder: Path, family: str, arch: str, config: dict[str, Any]) -> tuple[Path, Any]:
    """A random model's checkpoint as fairseq2 saves it, its card, and the model."""
    start_fairseq2()
    from fairseq2.models.w2vbert import get_w2vbert_model_hub
    from fairseq2.models.wav2vec2 import get_wav2vec2_model_hub

    hub = get_wav2vec2_model_hub() if family == "wav2vec2" else get_w2vbert_model_hub()
    full = hub.get_arch_config(arch)
    wav2vec2 = full if family == "wav2vec2" else full.w2v2_config
    changes = config if family == "wav2vec2" else config["w2v2_config"]
    for name, value in changes["encoder_config"].items():
        setattr(wav2vec2.encoder_config, name, value)
    if family == "w2vbert":
        full.num_bert_encoder_layers = config["num_bert_encoder_layers"]
    torch.manual_seed(0)
    model = hub.create_new_model(full).eval()
    torch.save(model.state_dict(), folder / "model.pt")
    return card(folder, family, arch, config), model


@pytest.fixture(scope="module")
def speech(make_speech: Callable[..., np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(make_speech(1.03, seed=8))[None]


def reference(model: Any, inputs: torch.Tensor, layer: int) -> torch.Tensor:
    """What the library itself computes: the output of a layer of the whole model."""
    from fairseq2.nn import BatchLayout

    outputs: list[torch.Tensor] = []
    model.encoder.register_layer_hook(lambda _i, out, _l, _n: outputs.append(out) is None)
    with torch.inference_mode():
        model.encoder(*model.encoder_frontend(inputs, BatchLayout.of(inputs)))
    return outputs[layer - 1]


@pytest.mark.parametrize(("arch", "changes"), [("base", CONVOLUTIONAL), ("large_lv60k", PRE_NORM)])
def test_wav2vec2_equals_the_library_at_every_layer(
    tmp_path: Path, speech: torch.Tensor, arch: str, changes: dict[str, Any]
) -> None:
    path, model = saved(tmp_path, "wav2vec2", arch, {"encoder_config": changes})
    inputs = speech
    if arch == "large_lv60k":
        inputs = torch.nn.functional.layer_norm(speech, speech.shape)
    for layer in (1, 2, 3):
        encoder = load_encoder(f"wav2vec2:{path}", layer=layer)
        frames = encoder.encode(speech, torch.tensor([speech.shape[1]]))
        expected = reference(model, inputs, layer)
        torch.testing.assert_close(frames.values, expected, rtol=0, atol=1e-6)
        assert frames.lengths.tolist() == [expected.shape[1]]
        assert encoder.frame_rate == 50
        assert encoder.name == f"wav2vec2:wav2vec2:{layer}"


def test_w2vbert_equals_the_library(tmp_path: Path, speech: torch.Tensor) -> None:
    config = {"w2v2_config": {"encoder_config": FBANK}, "num_bert_encoder_layers": 1}
    path, model = saved(tmp_path, "w2vbert", "300m", config)
    from fairseq2.data.audio import WaveformToFbankConverter

    convert = WaveformToFbankConverter(
        num_mel_bins=80, waveform_scale=2**15, channel_last=True, standardize=True
    )
    fbank = convert({"waveform": speech.T.contiguous(), "sample_rate": 16_000})["fbank"][None]
    encoder = load_encoder(f"w2vbert:{path}", layer=2)
    frames = encoder.encode(speech, torch.tensor([speech.shape[1]]))
    expected = reference(model.w2v2_model, fbank, 2)
    torch.testing.assert_close(frames.values, expected, rtol=0, atol=1e-6)
    assert frames.lengths.tolist() == [expected.shape[1]]
    assert encoder.frame_rate == Fraction(50)


@pytest.mark.parametrize("kind", ["group norm", "layer norm", "fbank"])
def test_a_row_in_a_batch_is_the_row_alone(
    tmp_path: Path, make_speech: Callable[..., np.ndarray], kind: str
) -> None:
    if kind == "fbank":
        config = {"w2v2_config": {"encoder_config": FBANK}, "num_bert_encoder_layers": 1}
        path, _ = saved(tmp_path, "w2vbert", "300m", config)
    else:
        arch, changes = (
            ("base", CONVOLUTIONAL) if kind == "group norm" else ("large_lv60k", PRE_NORM)
        )
        path, _ = saved(tmp_path, "wav2vec2", arch, {"encoder_config": changes})
    encoder = load_encoder(f"{path.stem}:{path}")
    batch = torch.zeros(3, 16_000)
    lengths = torch.tensor([16_000, 9_100, 200])  # the last is too short for a frame
    for row, length in zip(batch, lengths.tolist(), strict=True):
        row[:length] = torch.from_numpy(make_speech(1.0, seed=length))[:length]
    together = encoder.encode(batch, lengths)
    assert int(together.lengths[2]) == 0
    for index in (0, 1):
        alone = encoder.encode(batch[index : index + 1, : lengths[index]], lengths[index, None])
        count = int(together.lengths[index])
        assert count == int(alone.lengths[0])
        torch.testing.assert_close(
            together.values[index, :count], alone.values[0], rtol=1e-4, atol=1e-5
        )


def test_weights_and_layer_are_the_fingerprint(tmp_path: Path) -> None:
    path, model = saved(tmp_path, "wav2vec2", "base", {"encoder_config": CONVOLUTIONAL})
    prints = {load_encoder(f"wav2vec2:{path}", layer=layer).fingerprint for layer in (1, 2)}
    again = load_encoder(f"wav2vec2:{path}", layer=1).fingerprint
    assert again in prints
    state = model.state_dict()
    state["encoder.layers.0.ffn.inner_proj.bias"] += 1
    torch.save(state, tmp_path / "model.pt")
    assert load_encoder(f"wav2vec2:{path}", layer=1).fingerprint not in prints
    assert len(prints) == 2


def test_a_checkpoint_of_a_named_architecture_is_loaded(tmp_path: Path) -> None:
    # Of the wrong size for it, so the library refuses the weights, in one sentence.
    saved(tmp_path, "wav2vec2", "base", {"encoder_config": CONVOLUTIONAL})
    with pytest.raises(DataMismatch, match=r"wav2vec2/base:.* cannot be loaded") as caught:
        load_fairseq2(f"wav2vec2/base:{tmp_path / 'model.pt'}", layer=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("wav2vec2_nonsense", "no asset called wav2vec2_nonsense"),
        ("wav2vec2:missing.pt", "missing.pt does not exist"),
        ("wav2vec2:missing.yaml", "cannot be loaded"),
        ("wav2vec2/huge:{file}", "cannot be loaded: huge is not a known"),
        ("wav2vec2:{file}", "cannot be loaded"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(tmp_path: Path, spec: str, sentence: str) -> None:
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(DataMismatch, match=sentence) as caught:
        load_encoder(spec.format(file=tmp_path / "text.pt"))
    assert "\n" not in str(caught.value)


def test_layers_are_counted_from_one(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "wav2vec2", "base", {"encoder_config": CONVOLUTIONAL})
    for layer in (0, 4):
        with pytest.raises(DataMismatch, match="has layers 1 to 3"):
            load_encoder(f"wav2vec2:{path}", layer=layer)
