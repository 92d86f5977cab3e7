"""Searching for units: never worse, never another row's, and only the k-means' own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.errors import DataMismatch
from stages.semantic.unit_search.config import save_unit_network
from stages.semantic.unit_search.gliding import glide
from stages.semantic.unit_search.pieces import pieces
from stages.semantic.unit_search.searcher import UnitSearch
from stages.semantic.unit_search.searching import EFFORTS, SearchSettings, search
from stages.semantic.unit_search.unit_to_mel import load_unit_to_mel
from tests.tiny_units import KMEANS, SPEAKER, tiny_speaker
from tests.tiny_whisper import tiny_whisper

Searcher = Callable[..., UnitSearch]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_speaker(tmp_path / "s")


@pytest.fixture
def make_searcher(folder: Path, tmp_path: Path) -> Searcher:
    ear = f"whisper:{tiny_whisper(tmp_path / 'whisper')}"
    return lambda **options: UnitSearch(folder, KMEANS, ear=ear, **options)


def smeared(target: Tensor) -> Callable[[Tensor], Tensor]:
    """A loss that hangs on neighbours: squared distance of three frames' means to `[T, dim]`."""

    def loss(points: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(points, (0, 0, 1, 1))
        means = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
        return (means - target).square().sum(dim=-1)

    return loss


def test_the_search_finds_units_that_lose_less() -> None:
    centroids = torch.from_numpy(KMEANS.centroids)
    points = 2 * torch.rand(60, 3, generator=torch.Generator().manual_seed(1)) - 1
    padded = torch.nn.functional.pad(points[None], (0, 0, 1, 1))[0]
    loss = smeared((padded[:-2] + padded[1:-1] + padded[2:]) / 3)
    nearest = torch.cdist(points, centroids).argmin(dim=1)
    lost = [float(loss(centroids[nearest][None]).sum())]  # 2.9
    for rounds in (5, 30):
        settings = SearchSettings(rounds=rounds)
        units = search(loss, points, centroids, settings, torch.Generator().manual_seed(0))
        assert units.shape == nearest.shape
        lost.append(float(loss(centroids[units][None]).sum()))
    assert lost[2] < lost[1] < lost[0]
    assert lost[2] < 0.75 * lost[0]
    none = SearchSettings(rounds=0)
    assert torch.equal(search(loss, points, centroids, none, torch.Generator()), nearest)


def test_a_quick_search_hears_a_quarter_and_finds_most() -> None:
    generator = torch.Generator().manual_seed(1)
    centroids = 2 * torch.rand(4_000, 3, generator=generator) - 1
    points, target = 2 * torch.rand(2, 40, 3, generator=generator) - 1
    loss = smeared(target)
    heard = {"full": 0, "quick": 0}
    lost = {}
    for effort, settings in EFFORTS.items():

        def listen(rows: Tensor, effort: str = effort) -> Tensor:
            heard[effort] += len(rows)
            return loss(rows)

        moved = glide(listen, points, centroids, steps=settings.steps, rate=settings.rate)
        units = search(listen, moved, centroids, settings, torch.Generator().manual_seed(0))
        lost[effort] = float(loss(centroids[units][None]).sum())
    nearest = torch.cdist(points, centroids).argmin(dim=1)
    before = float(loss(centroids[nearest][None]).sum())
    assert heard["quick"] < heard["full"] / 3
    assert lost["full"] < lost["quick"]
    assert before - lost["quick"] > (before - lost["full"]) / 2


def test_units_stay_among_a_frames_candidates() -> None:
    centroids = torch.from_numpy(KMEANS.centroids)
    points = torch.zeros(20, 3)
    far = smeared(torch.full((20, 3), 9.0))  # to be as loud as can be
    units = search(
        far, points, centroids, SearchSettings(candidates=3, rounds=40), torch.Generator()
    )
    allowed = torch.cdist(points[:1], centroids).topk(3, largest=False).indices[0]
    assert set(units.tolist()) <= set(allowed.tolist())
    best = centroids[allowed].sum(dim=1).argmax()
    assert (units == allowed[best]).float().mean() > 0.8


def test_points_glide_to_units_that_no_neighbour_is() -> None:
    generator = torch.Generator().manual_seed(1)
    centroids = 2 * torch.rand(4_000, 3, generator=generator) - 1
    points, target = 2 * torch.rand(2, 40, 3, generator=generator) - 1
    loss = smeared(target)

    def lost(units: Tensor) -> float:
        return float(loss(centroids[units][None]).sum())

    def nearest(moved: Tensor) -> Tensor:
        return torch.cdist(moved, centroids).argmin(dim=1)

    searched = search(loss, points, centroids, SearchSettings(rounds=12), torch.Generator())
    moved = glide(loss, points, centroids, steps=60, rate=0.1)
    assert lost(nearest(moved)) < 0.5 * lost(searched)
    assert lost(searched) < lost(nearest(points))
    assert torch.equal(glide(loss, points, centroids, steps=0, rate=0.1), points)


def test_a_glide_loses_no_more_and_stays_where_units_are() -> None:
    centroids = torch.from_numpy(KMEANS.centroids)
    points = centroids[torch.arange(30) % 40]

    def rough(moved: Tensor) -> Tensor:
        """Falls towards 9, by its gradient, and rises with any move, by its value."""
        away = (moved - points).abs().sum(dim=-1)
        pull = (moved - 9).square().sum(dim=-1)
        return pull - pull.detach() + away.detach()

    assert torch.equal(glide(rough, points, centroids, steps=5, rate=0.5), points)
    outward = smeared(torch.full((30, 3), 9.0))
    moved = glide(outward, points, centroids, steps=30, rate=0.5)
    assert not torch.equal(moved, points)
    assert (moved >= centroids.amin(dim=0)).all()
    assert (moved <= centroids.amax(dim=0)).all()


def test_the_same_recording_has_the_same_units(
    make_searcher: Searcher, make_speech: Callable[..., np.ndarray]
) -> None:
    searcher = make_searcher()
    samples = make_speech(1.99, seed=1)
    frames = np.random.default_rng(1).uniform(-1, 1, (50, 3)).astype(np.float32)
    units = searcher.units(samples, frames)
    assert (units.dtype, units.shape) == (np.uint16, (50,))
    assert 0 < (units != KMEANS.assign(frames)).sum() < 50
    searcher.units(samples[:8_000], frames[:13])
    np.testing.assert_array_equal(searcher.units(samples, frames), units)
    still = make_searcher(settings=SearchSettings(steps=0, rounds=0))
    np.testing.assert_array_equal(still.units(samples, frames), KMEANS.assign(frames))
    assert still.fingerprint != searcher.fingerprint


def test_found_units_sound_nearer(
    make_searcher: Searcher, make_speech: Callable[..., np.ndarray]
) -> None:
    searcher = make_searcher()
    samples = make_speech(2.0, seed=2)
    frames = np.random.default_rng(1).uniform(-1, 1, (50, 3)).astype(np.float32)
    loss = searcher.loss_of(samples, len(frames))
    found, nearest = searcher.units(samples, frames), KMEANS.assign(frames)
    lost = [
        float(loss(torch.from_numpy(KMEANS.centroids[units])[None]).sum())
        for units in (found, nearest)
    ]
    assert lost[0] < lost[1]


def test_a_long_recording_is_searched_in_pieces(
    make_searcher: Searcher, make_speech: Callable[..., np.ndarray]
) -> None:
    found = list(pieces(307, size=100, margin=10))
    kept = [at for begin, end, part in found for at in range(begin, end)[part]]
    assert kept == list(range(307))
    assert max(end - begin for begin, end, _ in found) == 120
    assert list(pieces(3, size=100, margin=10)) == [(0, 3, slice(0, 3))]
    frames = np.random.default_rng(1).uniform(-1, 1, (1300, 3)).astype(np.float32)
    searcher = make_searcher(settings=SearchSettings(rounds=1, trials=1))
    units = searcher.units(make_speech(52.0), frames)
    assert units.shape == (1300,)
    assert (units != KMEANS.assign(frames)).any()


def test_what_cannot_speak_or_listen_is_refused(folder: Path, tmp_path: Path) -> None:
    ear = f"whisper:{tiny_whisper(tmp_path / 'whisper')}"
    other = replace(KMEANS, encoder_fingerprint="f" * 64)
    with pytest.raises(DataMismatch, match="speaks the units of another encoder"):
        UnitSearch(folder, other, ear=ear)
    with pytest.raises(DataMismatch, match="--search logmel is no Whisper"):
        UnitSearch(folder, KMEANS, ear="logmel")
    network, config, _ = load_unit_to_mel(folder)
    wide = replace(config, mels=40)
    save_unit_network(tmp_path / "w", config=wide, weights=wide.build().state_dict(), kmeans=KMEANS)
    with pytest.raises(DataMismatch, match="hears 20 bands, and what is spoken has 40"):
        UnitSearch(tmp_path / "w", KMEANS, ear=ear)
    assert not network.training


def test_what_is_saved_is_loaded(folder: Path) -> None:
    _, config, file = load_unit_to_mel(folder)
    assert config == SPEAKER
    assert file.tokens["semantic"] == KMEANS.tokens.to_json()
    with pytest.raises(DataMismatch, match=r"an even network\.stack"):
        replace(SPEAKER, stack=3)
