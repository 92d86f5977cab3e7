"""Refining frames: at first nothing moves, no row sees another, and only a fit pair refines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.errors import DataMismatch
from stages.semantic.kmeans import RefinerChoice
from stages.semantic.unit_search.config import save_unit_network
from stages.semantic.unit_search.refiner import Refiner, RefinerConfig
from stages.semantic.unit_search.refining import Refinement, load_refinement
from stages.semantic.unit_search.unit_to_mel import load_unit_to_mel
from tests.tiny_units import KMEANS, SPEAKER, tiny_speaker

ENCODER = KMEANS.encoder_fingerprint
CONFIG = RefinerConfig(**SPEAKER.to_json())


def moving() -> Refiner:
    """One that moves frames at random."""
    torch.manual_seed(1)
    network = CONFIG.build().eval()
    torch.nn.init.normal_(network.output.weight)
    return network


@pytest.fixture
def speaker(tmp_path: Path) -> Path:
    return tiny_speaker(tmp_path / "s")


@pytest.fixture
def folder(speaker: Path, tmp_path: Path) -> Path:
    save_unit_network(
        tmp_path / "r",
        config=CONFIG,
        weights=moving().state_dict(),
        kmeans=KMEANS,
        extra={"unit_to_mel": load_unit_to_mel(speaker)[2].fingerprint},
    )
    return tmp_path / "r"


def drawn(rows: int, count: int, seed: int = 0) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Points, log-mel frames and voices."""
    generator = torch.Generator().manual_seed(seed)
    points = 2 * torch.rand(rows, count, 3, generator=generator) - 1
    said = torch.randn(rows, 4 * count, 20, generator=generator)
    voice = torch.rand(2, rows, 1, 20, generator=generator)
    return points, said, (voice[0], voice[1])


def test_a_new_network_moves_nothing() -> None:
    points, said, voice = drawn(2, 9)
    lengths = torch.tensor([9, 9])
    still = CONFIG.build().eval()
    moved = still(points, lengths, said, voice, SPEAKER.build().eval())
    torch.testing.assert_close(moved, points, atol=1e-6, rtol=1e-5)


def test_moved_frames_stay_about_the_centroids_and_hear_the_recording() -> None:
    points, said, voice = drawn(2, 30)
    lengths, network, speaks = torch.tensor([30, 30]), moving(), SPEAKER.build().eval()
    torch.nn.init.normal_(network.output.weight, std=50)
    moved = network(points, lengths, said, voice, speaks)
    assert 1 < moved.abs().max() <= 1 / 0.9
    assert not torch.allclose(network(points, lengths, -said, voice, speaks), moved, atol=1e-3)


def test_a_row_is_refined_as_if_alone() -> None:
    points, said, voice = drawn(2, 20)
    network, speaks = moving(), SPEAKER.build().eval()
    together = network(points, torch.tensor([20, 13]), said, voice, speaks)
    alone = network(
        points[1:, :13],
        torch.tensor([13]),
        said[1:, : 4 * 13],
        (voice[0][1:], voice[1][1:]),
        speaks,
    )
    torch.testing.assert_close(together[1, :13], alone[0], atol=1e-5, rtol=1e-4)


def test_the_same_recording_has_the_same_frames(
    folder: Path, speaker: Path, make_speech: Callable[..., np.ndarray]
) -> None:
    refinement = Refinement(folder, ENCODER, speaker=speaker)
    samples = make_speech(1.99, seed=1)
    frames = np.random.default_rng(1).uniform(-1, 1, (50, 3)).astype(np.float32)
    moved = refinement.frames(samples, frames)
    assert (moved.dtype, moved.shape) == (np.float32, (50, 3))
    assert 0 < (KMEANS.assign(moved) != KMEANS.assign(frames)).mean() < 1
    refinement.frames(samples[:8_000], frames[:13])
    np.testing.assert_array_equal(refinement.frames(samples, frames), moved)
    assert not np.allclose(refinement.frames(samples[::-1].copy(), frames), moved, atol=1e-3)


def test_a_long_recording_is_refined_in_pieces(
    folder: Path, speaker: Path, make_speech: Callable[..., np.ndarray]
) -> None:
    refinement = Refinement(folder, ENCODER, speaker=speaker)
    samples = make_speech(52.0, seed=2)
    frames = np.random.default_rng(1).uniform(-1, 1, (1300, 3)).astype(np.float32)
    moved = refinement.frames(samples, frames)
    assert moved.shape == (1300, 3)
    # The first piece, and what it sees of the second, decide the first 24 s.
    far = frames.copy()
    far[700:] = 0
    np.testing.assert_array_equal(refinement.frames(samples, far)[:600], moved[:600])
    assert not np.allclose(refinement.frames(samples, far)[600:], moved[600:], atol=1e-3)


def test_which_refiner_is_meant(folder: Path, speaker: Path) -> None:
    assert load_refinement(None, ENCODER) is None
    choice = RefinerChoice(spec=str(folder), unit_to_mel=str(speaker))
    assert isinstance(load_refinement(choice, ENCODER), Refinement)
    with pytest.raises(DataMismatch, match="refines the frames of another encoder: train a refin"):
        load_refinement(RefinerChoice(spec="mini", unit_to_mel="mini"), ENCODER)


def test_what_does_not_fit_is_refused(folder: Path, speaker: Path, tmp_path: Path) -> None:
    with pytest.raises(DataMismatch, match="refines the frames of another encoder"):
        Refinement(folder, "f" * 64, speaker=speaker)
    with pytest.raises(DataMismatch, match="learned with another unit-to-mel model than"):
        Refinement(folder, ENCODER, speaker=tiny_speaker(tmp_path / "o", seed=5))
    with pytest.raises(DataMismatch, match="holds a unit-to-mel"):
        Refinement(speaker, ENCODER, speaker=speaker)
