"""CTC and RNN-T judges: torchaudio's own loaders and decoders on tiny random models."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchaudio
from torchaudio.models import emformer_rnnt_model
from torchaudio.pipelines import RNNTBundle, Wav2Vec2ASRBundle

from stages.errors import DataMismatch
from stages.evaluation.judges.registry import HearingOptions, load_judges
from stages.evaluation.judges.torchaudio import CTCPipeline, torchaudio_judge

LABELS = ("|", "E", "H", "L", "O")
WAV2VEC2 = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(8, 10, 5), (8, 8, 8), (8, 8, 8)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 8,
    "encoder_projection_dropout": 0.0,
    "encoder_pos_conv_kernel": 4,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 1,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.0,
    "encoder_ff_interm_features": 8,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.0,
    "aux_num_out": len(LABELS) + 1,
}
WORDS = ["the cat sat on the mat", "a dog and a cat", "hello there world"]
SPEECH = np.random.default_rng(0).standard_normal(8_000).astype(np.float32) / 10


@pytest.fixture
def tiny_ctc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """`torchaudio.pipelines.TINY_CTC`, and weights with which every frame is an H."""
    bundle = Wav2Vec2ASRBundle(
        _path="tiny.pth", _params=WAV2VEC2, _sample_rate=16_000, _normalize_waveform=False,
        _model_type="Wav2Vec2", _labels=LABELS, _remove_aux_axis=(1, 2, 3),
    )  # fmt: skip
    monkeypatch.setattr(torchaudio.pipelines, "TINY_CTC", bundle, raising=False)
    torch.manual_seed(0)
    state = torchaudio.models.wav2vec2_model(**WAV2VEC2).state_dict()
    # As published: with three outputs that the loader takes away.
    state["aux.weight"] = torch.zeros(len(LABELS) + 4, 8)
    state["aux.bias"] = torch.zeros(len(LABELS) + 4)
    state["aux.bias"][3 + 1 + LABELS.index("H")] = 5.0
    torch.save(state, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


@pytest.fixture
def tiny_rnnt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """`torchaudio.pipelines.TINY_RNNT`, and a folder with the three files that it needs."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="RNN-T needs the eval extra")
    vocabulary, mels = 30, 8
    build = partial(
        emformer_rnnt_model, input_dim=mels, encoding_dim=8, num_symbols=vocabulary + 1,
        segment_length=4, right_context_length=1, time_reduction_input_dim=4,
        time_reduction_stride=4, transformer_num_heads=2, transformer_ffn_dim=8,
        transformer_num_layers=1, transformer_dropout=0.0, transformer_activation="gelu",
        transformer_left_context_length=4, transformer_max_memory_size=0,
        transformer_weight_init_scale_strategy="depthwise", transformer_tanh_on_mem=False,
        symbol_embedding_dim=8, num_lstm_layers=1, lstm_layer_norm=True,
        lstm_layer_norm_epsilon=1e-3, lstm_dropout=0.0,
    )  # fmt: skip
    bundle = RNNTBundle(
        _rnnt_path="models/tiny_rnnt.pt", _rnnt_factory_func=build,
        _global_stats_path="pipeline-assets/tiny_stats.json",
        _sp_model_path="pipeline-assets/tiny.model", _right_padding=4, _blank=vocabulary,
        _sample_rate=16_000, _n_fft=400, _n_mels=mels, _hop_length=160, _segment_length=16,
        _right_context_length=4,
    )  # fmt: skip
    monkeypatch.setattr(torchaudio.pipelines, "TINY_RNNT", bundle, raising=False)
    folder = tmp_path / "rnnt"
    folder.mkdir()
    torch.manual_seed(1)
    torch.save(build().state_dict(), folder / "tiny_rnnt.pt")
    stats = {"mean": [0.0] * mels, "invstddev": [1.0] * mels}
    (folder / "tiny_stats.json").write_text(json.dumps(stats))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 5), model_writer=model, vocab_size=vocabulary,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (folder / "tiny.model").write_bytes(model.getvalue())
    return folder


def test_a_ctc_pipeline_hears_with_weights_from_a_path(tiny_ctc: Path) -> None:
    judge = torchaudio_judge(f"TINY_CTC={tiny_ctc}")
    assert judge(SPEECH) == "H"  # one for all frames: a repeated label is one letter
    assert judge.name == "torchaudio:TINY_CTC"
    assert judge.slug == "torchaudio_tiny_ctc"
    assert len(judge.settings["weights"][0]) == 64


def test_ctc_joins_repeats_and_drops_blanks(tiny_ctc: Path) -> None:
    judge = torchaudio_judge(f"TINY_CTC={tiny_ctc}")
    assert isinstance(judge, CTCPipeline)
    frames = "HH-EE-L-LLO||-|HHO-"
    indices = torch.tensor([("-", *LABELS).index(letter) for letter in frames])
    judge._hear = lambda samples: (torch.nn.functional.one_hot(indices)[None].float(), None)
    assert judge(SPEECH) == "HELLO  HO"


def test_an_rnnt_pipeline_is_torchaudios_own(tiny_rnnt: Path) -> None:
    judge = torchaudio_judge(f"TINY_RNNT={tiny_rnnt}", beam=3)
    bundle = judge._bundle  # type: ignore[attr-defined]
    with torch.inference_mode():
        features, length = bundle.get_feature_extractor()(torch.from_numpy(SPEECH))
        tokens = bundle.get_decoder()(features, length, 3)[0][0]
        expected = bundle.get_token_processor()(tokens)
    heard = judge(SPEECH)
    assert heard == expected.strip()
    assert heard == judge(SPEECH)
    assert len(tokens) > 1
    assert judge.settings["beam"] == 3
    assert len(judge.settings["weights"]) == 3


def test_weights_that_cannot_be_downloaded_are_one_sentence(
    tiny_ctc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*arguments: object, **options: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tiny_ctc.parent))
    judge = torchaudio_judge("TINY_CTC")
    with pytest.raises(
        DataMismatch, match=r"weights of torchaudio:TINY_CTC cannot be had .*no net"
    ):
        judge(SPEECH)


def test_weights_of_another_model_are_one_sentence(tiny_ctc: Path) -> None:
    torch.save({"aux.weight": torch.zeros(9, 8), "aux.bias": torch.zeros(9)}, tiny_ctc)
    with pytest.raises(DataMismatch, match="cannot be had"):
        torchaudio_judge(f"TINY_CTC={tiny_ctc}")(SPEECH)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("torchaudio:WAV2VEC2_BASE", "no speech recogniser WAV2VEC2_BASE: choose from .*960H"),
        ("torchaudio:WAV2VEC2_ASR_BASE_960H=./nowhere.pt", "nowhere.pt does not exist"),
        ("torchaudio:EMFORMER_RNNT_BASE_LIBRISPEECH=./nowhere", "librispeech.pt does not exist"),
        ("whisper:", "there is no judge whisper:"),
        ("base", "there is no judge base: write whisper:NAME"),
    ],
)
def test_judges_that_do_not_exist_are_refused(spec: str, sentence: str) -> None:
    with pytest.raises(DataMismatch, match=sentence):
        load_judges(HearingOptions(judges=(spec,)))


def test_judges_are_told_apart_by_name(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "tiny").mkdir(parents=True)
        (tmp_path / folder / "tiny" / "model.bin").write_bytes(b"")
    one, other = (f"whisper:{tmp_path / folder / 'tiny'}" for folder in ("a", "b"))
    judges = load_judges(HearingOptions(judges=(one, "whisper:base", one)))
    assert [judge.name for judge in judges] == ["whisper:tiny", "whisper:base"]
    with pytest.raises(DataMismatch, match="two judges would be called whisper:tiny"):
        load_judges(HearingOptions(judges=(one, other)))


def test_a_reference_needs_a_judge_and_a_name() -> None:
    with pytest.raises(DataMismatch, match="no reference truth: use auto, text, transcript"):
        HearingOptions(judges=("whisper:base",), reference="truth")
    with pytest.raises(DataMismatch, match="needs someone who transcribes"):
        HearingOptions(judges=(), reference="transcript")
