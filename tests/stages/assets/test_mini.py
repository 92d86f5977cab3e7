"""What ships by the name `mini`: it loads, is small, and keeps speech."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import stages.audiolm.model as audiolm
from stages.assets import MINI, model_folder
from stages.audio.pitch import track_pitch
from stages.audio.reading import read_audio
from stages.audiolm.acoustic import AcousticOptions, generate_acoustic
from stages.audiolm.config import CoarseConfig, FineConfig, SemanticConfig
from stages.codec.base import AudioBatch
from stages.codec.mel.codec import MelRVQCodec
from stages.codec.mel.convnext import frame_mask
from stages.codec.mel.source_filter import SourceFilter
from stages.codec.registry import load_codec
from stages.consistency.model import load_consistency
from stages.errors import DataMismatch
from stages.semantic.encoders.registry import load_chosen
from stages.semantic.kmeans import load_kmeans
from stages.soundstorm.decoding import DecodeOptions, DecodeRequest, decode
from stages.soundstorm.model import from_model_file

ROOT = Path(__file__).resolve().parents[3]
ASSETS = ROOT / "stages" / "assets" / MINI
SPEECH = ROOT / "examples" / "speech" / "finn" / "finn-00.opus"


def test_the_family_is_small_and_free_of_paths() -> None:
    files = [path for path in ASSETS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 60e6
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    for path in ASSETS.rglob("*.json"):
        assert '"/' not in path.read_text(), f"{path} names a folder of the machine it was made on"


def test_all_of_it_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["stages.assets"]
    installed = {path for pattern in patterns for path in ASSETS.parent.glob(pattern)}
    assert installed == {path for path in ASSETS.rglob("*") if path.is_file()}


def test_a_name_is_what_ships_and_a_path_is_a_path() -> None:
    assert model_folder("mini", "codec") == ASSETS / "codec"
    assert model_folder("mini", "source-filter") == ASSETS / "codec" / "vocoder"
    assert model_folder("./mini", "codec") == Path("mini")
    assert model_folder("runs/a", "codec") == Path("runs/a")


def test_a_part_that_does_not_ship_is_named() -> None:
    with pytest.raises(DataMismatch, match=r"no vocoder ships as mini \(.*codec, .*kmeans, "):
        model_folder("mini", "vocoder")


def test_the_codec_is_the_paper_s_size() -> None:
    codec = load_codec("mini")
    assert isinstance(codec, MelRVQCodec)
    assert (codec.name, codec.sample_rate, codec.frame_rate) == ("mini", 16_000, 50)
    assert (codec.levels, codec.codebook_size) == (12, 1024)
    assert load_codec("mini", bitrate=3.0).levels == 6
    assert codec.fingerprint == load_codec(str(ASSETS / "codec")).fingerprint


@pytest.fixture(scope="module")
def speech() -> torch.Tensor:
    return torch.from_numpy(read_audio(str(SPEECH), sample_rate=16_000).samples)[None]  # [1, 1, N]


def test_more_levels_are_nearer_to_the_speech(speech: torch.Tensor) -> None:
    codec = load_codec("mini")
    assert isinstance(codec, MelRVQCodec)
    lengths = torch.tensor([speech.shape[2]])
    network = codec._network
    mel, _ = network.log_mel(speech[:, 0], lengths)
    distances = []
    for levels in (1, 4, 12):
        made, _ = network.through(speech[:, 0], lengths, levels)
        distances.append(float((made - mel).abs().mean()))
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 0.45  # a synthetic voice, which it was not made for


def test_the_pitch_of_a_voice_is_told(speech: torch.Tensor) -> None:
    """Of a synthetic one, which it was not trained on either, as Harvest tells it."""
    codec = load_codec("mini")
    assert isinstance(codec, MelRVQCodec)
    assert isinstance(codec._sound, SourceFilter)
    mel, frames = codec._network.through(speech[:, 0], torch.tensor([speech.shape[2]]))
    logits, voicing = codec._sound.pitch(mel, frame_mask(frames, mel.shape[1]))
    told = codec._sound.pitch.pitch(logits[0])
    tracked = track_pitch(speech[0, 0].numpy(), 16_000, seconds=0.01, lowest=60, highest=500)
    true = torch.from_numpy(tracked[: len(told)])
    voiced = (true > 0) & (voicing[0, : len(true)] > 0)
    assert voiced.float().mean() > 0.3
    off = (told[: len(true)][voiced] / true[voiced]).log().abs()
    assert off.median() < 0.03
    assert (off > 0.2).float().mean() < 0.1


def test_sound_comes_back(speech: torch.Tensor) -> None:
    codec = load_codec("mini")
    tokens = codec.encode(AudioBatch(samples=speech, lengths=torch.tensor([speech.shape[2]])))
    heard = codec.decode(tokens).samples[0, 0].numpy()
    energy = [
        np.sqrt(np.square(x[: len(x) // 800 * 800].reshape(-1, 800)).mean(axis=1))
        for x in (speech[0, 0].numpy(), heard[: speech.shape[2]])
    ]
    assert np.corrcoef(energy[0], energy[1])[0, 1] > 0.95


def test_the_parts_speak_the_same_tokens() -> None:
    model = from_model_file(model_folder("mini", "soundstorm"), torch.device("cpu"))
    kmeans = load_kmeans(model_folder("mini", "kmeans"))
    model.semantic.require_same(kmeans.tokens, ours="mini", theirs="mini")
    model.acoustic.require_same(load_codec("mini").spec, ours="mini", theirs="mini")
    assert kmeans.frame_rate == 25
    kmeans.require_encoder(load_chosen(kmeans.choice, device="cpu"), where="mini")


@pytest.fixture(scope="module")
def acoustic() -> audiolm.AcousticModel:
    cpu = torch.device("cpu")
    coarse = audiolm.from_model_file(model_folder("mini", "audiolm-coarse"), CoarseConfig, cpu)
    fine = audiolm.from_model_file(model_folder("mini", "audiolm-fine"), FineConfig, cpu)
    return audiolm.join_stages(coarse, fine, coarse_where="mini", fine_where="mini")


def test_audiolm_speaks_the_same_tokens(acoustic: audiolm.AcousticModel) -> None:
    folder = model_folder("mini", "audiolm-semantic")
    words = audiolm.from_model_file(folder, SemanticConfig, torch.device("cpu"))
    acoustic.acoustic.require_same(load_codec("mini").spec, ours="mini", theirs="mini")
    kmeans = load_kmeans(model_folder("mini", "kmeans"))
    for stage in (words, acoustic.coarse):
        stage.tokens["semantic"].require_same(kmeans.tokens, ours="mini", theirs="mini")


@pytest.fixture(scope="module")
def ragged(speech: torch.Tensor) -> list[DecodeRequest]:
    """Rows of 40 to 140 frames of one recording, a fifth of each given."""
    codec = load_codec("mini")
    tokens = codec.encode(AudioBatch(samples=speech, lengths=torch.tensor([speech.shape[2]])))
    generator = torch.Generator().manual_seed(0)
    return [
        DecodeRequest(
            row_id=str(frames),
            semantic=torch.randint(4096, (frames,), generator=generator),
            prompt=tokens.codes[0, : frames // 5],
        )
        for frames in (40, 75, 110, 140)
    ]


def test_real_weights_too_give_a_row_what_it_gets_alone(
    ragged: list[DecodeRequest], acoustic: audiolm.AcousticModel
) -> None:
    """Where rounding decides draws, a batch in one product would sooner or later differ."""
    network = from_model_file(model_folder("mini", "soundstorm"), torch.device("cpu")).network
    options = DecodeOptions(iterations=(16, *[1] * 11))
    for request, together in zip(ragged, decode(network, ragged, options), strict=True):
        (alone,) = decode(network, [request], options)
        assert torch.equal(alone.acoustic, together.acoustic)
        bits = [row.trace.confidence.nan_to_num() for row in (alone, together)]
        assert torch.equal(*bits)
    made = generate_acoustic(acoustic, ragged, AcousticOptions())
    for request, codes in zip(ragged, made, strict=True):
        (alone_codes,) = generate_acoustic(acoustic, [request], AcousticOptions())
        assert torch.equal(alone_codes, codes)


def test_consistency_hears_who_speaks_and_where() -> None:
    """Six synthetic voices, 3 s of each against 3 s of each: its own is the nearer."""
    network, _ = load_consistency(model_folder("mini", "consistency"))
    sides = []
    for number in ("00", "05"):
        crops = []
        for voice in sorted(SPEECH.parents[1].glob("*/")):
            file = voice / f"{voice.name}-{number}.opus"
            if file.exists():
                samples = read_audio(str(file), sample_rate=16_000).samples[0]
                crops.append(torch.from_numpy(samples)[:45_000])
        batch = torch.nn.utils.rnn.pad_sequence(crops, batch_first=True)  # [6, N]
        with torch.inference_mode():
            sides.append(network.embed(batch, torch.tensor([len(crop) for crop in crops])))
    cosines = sides[0] @ sides[1].T  # [6, 6]
    own = cosines.diagonal().mean()
    other = (cosines.sum() - cosines.diagonal().sum()) / (36 - 6)
    assert cosines.shape == (6, 6)
    assert own > other + 0.2
