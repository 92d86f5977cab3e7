"""BEST-RQ: its random codes, its masks, its loss, and its frames as an encoder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.errors import DataMismatch
from stages.semantic.best_rq import BestRQ, BestRQConfig, draw_spans, save_best_rq
from stages.semantic.encoders.registry import load_encoder

TINY = BestRQConfig(
    layers=3, heads=2, width=16, feed_forward=32, dropout=0.0, codebook_size=64, mels=40
)


def network(config: BestRQConfig = TINY, seed: int = 0) -> BestRQ:
    torch.manual_seed(seed)
    return BestRQ(config).eval()


@pytest.fixture(scope="module")
def batch(make_speech: Callable[..., np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    samples = torch.zeros(2, 32_000)
    samples[0] = torch.from_numpy(make_speech(2.0, seed=1))
    samples[1, :20_100] = torch.from_numpy(make_speech(20_100 / 16_000, seed=2))
    return samples, torch.tensor([32_000, 20_100])


def test_features_are_normalised_stacked_and_void_past_the_end(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    features, counts = network().features(*batch)
    assert features.shape == (2, 50, 4 * 40)
    assert counts.tolist() == [50, 32]  # ceil(20100 / 640)
    bands = features[0].reshape(200, 40)
    torch.testing.assert_close(bands.mean(dim=0), torch.zeros(40), atol=1e-4, rtol=0)
    torch.testing.assert_close(bands.std(dim=0, correction=0), torch.ones(40), atol=1e-3, rtol=0)
    assert not features[1, 32:].any()


def test_without_utterance_norm_the_network_hears_loudness_and_its_targets_do_not(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    samples, lengths = batch
    for norm in (True, False):
        model = network(replace(TINY, utterance_norm=norm))
        features, counts = model.features(samples, lengths)
        softer, _ = model.features(samples / 4, lengths)
        bands, mel_counts = model.mel(samples, lengths)
        quiet, _ = model.mel(samples / 4, lengths)
        moved = (features - softer)[0].mean()
        torch.testing.assert_close(
            moved, torch.tensor(0.0 if norm else math.log(4) / 2.5), atol=0.02, rtol=0
        )
        assert not features[1, int(counts[1]) :].any()
        targets = [
            model.targets(model.stacked(x, mel_counts, normalise=True)[:1]) for x in (bands, quiet)
        ]
        assert (targets[0] == targets[1]).float().mean() > 0.95


def test_codes_are_the_nearest_and_use_much_of_the_codebook(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    model = network()
    features, _ = model.features(*batch)
    codes = model.targets(features)
    unit = torch.nn.functional.normalize(features[0, 7] @ model.projection, dim=0)
    assert int(codes[0, 7]) == int((model.codebook - unit).square().sum(dim=1).argmin())
    assert len(codes[0].unique()) > 15


def test_codes_are_the_same_in_bfloat16(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = network(replace(TINY, codebook_size=8192))
    features, _ = model.features(*batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        codes = model.targets(features)
    assert torch.equal(codes, model.targets(features))


def test_the_quantiser_depends_on_its_seed_alone() -> None:
    torch.testing.assert_close(network(seed=1).codebook, network(seed=2).codebook)
    other = BestRQConfig(**{**TINY.to_json(), "codebook_seed": 1})
    assert not torch.equal(network(other).codebook, network().codebook)
    assert "codebook" not in dict(network().named_parameters())


def test_spans_have_their_length_and_stay_inside() -> None:
    lengths = torch.tensor([1000, 400])
    masked = draw_spans(lengths, TINY, torch.Generator().manual_seed(0))
    assert masked.shape == (2, 1000)
    assert not masked[1, 400:].any()
    runs = "".join("x" if flag else " " for flag in masked[0].tolist()).split()
    assert TINY.mask_frames == 10
    assert all(len(run) >= 10 for run in runs[:-1])
    # 1 - (1 - 0.04)^10 of the frames, but for the beginning.
    assert masked[0].float().mean() == pytest.approx(0.335, abs=0.1)
    again = draw_spans(lengths, TINY, torch.Generator().manual_seed(0))
    assert torch.equal(masked, again)


def test_the_loss_at_the_start_is_that_of_a_guess(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    sums = network().loss(*batch, torch.Generator().manual_seed(0))
    assert sums.frames.min() > 0
    assert sums.loss.shape == (2,)
    assert float(sums.mean.detach()) == pytest.approx(np.log(64), rel=0.35)


def test_the_masked_input_is_hidden_and_the_rest_is_not(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    model = network()
    seen: list[torch.Tensor] = []
    model.input.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    features, counts = model.features(*batch)
    model.loss(*batch, torch.Generator().manual_seed(3))
    masked = draw_spans(counts, TINY, torch.Generator().manual_seed(3))
    torch.testing.assert_close(seen[0][~masked], features[~masked])
    assert seen[0][masked].std() == pytest.approx(0.1, rel=0.1)


def test_it_learns(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = network().train()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for step in range(40):
        loss = model.loss(*batch, torch.Generator().manual_seed(step % 4)).mean
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])


def test_a_model_folder_is_an_encoder(
    tmp_path: Path, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    model = network()
    save_best_rq(tmp_path, config=TINY, weights=model.state_dict(), extra={"steps": 3})
    encoder = load_encoder(str(tmp_path))
    assert encoder.name == "best-rq:2"
    assert (encoder.frame_rate, encoder.dim) == (Fraction(25), 16)
    frames = encoder.encode(*batch)
    expected, counts = model.encode(*batch, layer=2)
    torch.testing.assert_close(frames.values, expected)
    assert frames.lengths.tolist() == counts.tolist() == [50, 32]
    alone = encoder.encode(batch[0][1:, :20_100], batch[1][1:])
    torch.testing.assert_close(frames.values[1, :32], alone.values[0], atol=1e-5, rtol=1e-4)
    assert load_encoder(str(tmp_path), layer=3).fingerprint != encoder.fingerprint
    with pytest.raises(DataMismatch, match="has layers 1 to 3, not 4"):
        load_encoder(str(tmp_path), layer=4)


def test_fifty_hz() -> None:
    config = BestRQConfig(**{**TINY.to_json(), "stack": 2})
    assert config.frame_rate == 50
    assert config.mask_frames == 20


@pytest.mark.parametrize(
    "change", [{"mask_probability": 0.0}, {"mask_seconds": 0.001}, {"stack": 0}, {"heads": 3}]
)
def test_impossible_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(DataMismatch):
        BestRQConfig(**{**TINY.to_json(), **change})


def test_damaged_models_are_one_sentence(tmp_path: Path) -> None:
    save_best_rq(tmp_path, config=TINY, weights=network().state_dict())
    path = tmp_path / "config.json"
    document = json.loads(path.read_text())
    for change, sentence in (
        ({"width": 32}, "do not fit"),
        ({"depth": 3}, "sets depth, which is none of"),
    ):
        altered = {**document, "config": {**document["config"], **change}}
        path.write_text(json.dumps(altered))
        with pytest.raises(DataMismatch, match=sentence):
            load_encoder(str(tmp_path))
