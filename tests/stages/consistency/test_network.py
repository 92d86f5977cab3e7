"""Embeddings of crops: unit vectors of the crop alone, from a frozen encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stages.consistency.config import ConsistencyConfig, HeadConfig
from stages.consistency.encoder import tap_encoder
from stages.consistency.network import LARGEST_SCALE, ConsistencyNetwork
from stages.errors import DataMismatch
from stages.semantic.best_rq import load_best_rq

MakeSpeech = Callable[..., NDArray[np.float32]]


def test_a_crop_s_embedding_does_not_depend_on_its_neighbours(
    network: ConsistencyNetwork, make_speech: MakeSpeech
) -> None:
    crops = [torch.from_numpy(make_speech(seconds, seed=3)) for seconds in (1.0, 0.4, 0.7)]
    lengths = torch.tensor([len(crop) for crop in crops])
    batch = torch.full((3, 20_000), 9.0)  # padding is no zero, and longer than need be
    for row, crop in zip(batch, crops, strict=True):
        row[: len(crop)] = crop
    together = network.embed(batch, lengths)
    assert together.shape == (3, 8)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    for row, crop in zip(together, crops, strict=True):
        alone = network.embed(crop[None], torch.tensor([len(crop)]))
        torch.testing.assert_close(alone[0], row, rtol=0, atol=1e-5)


def test_identical_crops_have_the_similarity_1(
    network: ConsistencyNetwork, make_speech: MakeSpeech
) -> None:
    speech = torch.from_numpy(np.stack([make_speech(0.8, seed=seed) for seed in (1, 1, 2)]))
    one, same, other = network.embed(speech, torch.full((3,), speech.shape[1])).detach()
    assert float(one @ same) == pytest.approx(1.0, abs=1e-6)
    assert float(one @ other) < 1.0 - 1e-6


def test_the_encoder_is_the_best_rq_s_layer_and_stays(
    network: ConsistencyNetwork, best_rq: Path, make_speech: MakeSpeech
) -> None:
    speech = torch.from_numpy(make_speech(0.5))[None]
    lengths = torch.tensor([speech.shape[1]])
    whole, _ = load_best_rq(best_rq)
    expected, _ = whole.encode(speech, lengths, layer=2)
    network.train()
    frames, _ = network.encoder.encode(speech, lengths, layer=2)
    assert torch.equal(frames, expected)  # no dropout, though the rest is in training
    network.loss(speech.repeat(4, 1), lengths.repeat(4)).loss.backward()
    assert all(p.grad is None for p in network.encoder.parameters())
    others = [p for name, p in network.named_parameters() if not name.startswith("encoder.")]
    assert all(p.grad is not None for p in others)


def test_the_temperature_is_learnt_and_clipped(
    network: ConsistencyNetwork, make_speech: MakeSpeech
) -> None:
    assert float(network.log_scale.detach().exp()) == pytest.approx(1 / 0.07)
    speech = torch.from_numpy(np.stack([make_speech(0.4, seed=seed) for seed in range(4)]))
    with torch.no_grad():
        network.log_scale.fill_(9.0)
    network.loss(speech, torch.full((4,), speech.shape[1])).loss.backward()
    assert float(network.log_scale.detach()) == pytest.approx(math.log(LARGEST_SCALE))
    assert network.log_scale.grad is not None
    assert network.log_scale.grad != 0  # so that it can come back


def test_layers_are_counted_from_1_and_the_paper_s_is_the_default(best_rq: Path) -> None:
    first, one = tap_encoder(f"{best_rq}:1")
    last, two = tap_encoder(str(best_rq))
    assert (first.config.layers, last.config.layers) == (1, 2)
    assert one != two
    with pytest.raises(DataMismatch, match="has layers 1 to 2, not 3"):
        tap_encoder(f"{best_rq}:3")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"heads": 3}, "a width of 16 does not split into 3 heads"),
        ({"dim": 0}, "an embedding of width 0"),
    ],
)
def test_heads_that_cannot_be_are_refused(
    network: ConsistencyNetwork, change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataMismatch, match=sentence):
        ConsistencyConfig(
            encoder=network.config.encoder,
            head=HeadConfig(**{"heads": 2, "feed_forward": 16, "dim": 8, **change}),
        )
