"""k-means: finds what is there, out of core as in core, and knows whose frames it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.errors import DataMismatch
from stages.semantic.base import Frames, SemanticEncoder
from stages.semantic.clustering import ClusteringConfig, cluster
from stages.semantic.frame_pool import FramePool
from stages.semantic.kmeans import EncoderChoice, KMeans, load_kmeans, save_kmeans


def blobs(count: int = 400, centres: int = 6, dim: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Points round well separated centres: `[centres * count, dim]` shuffled, and the centres."""
    random = np.random.default_rng(0)
    middle = random.uniform(-10, 10, (centres, dim))
    points = np.repeat(middle, count, axis=0) + 0.1 * random.standard_normal((centres * count, dim))
    return random.permutation(points).astype(np.float32), middle


def fit(points: np.ndarray, config: ClusteringConfig, capacity: int) -> tuple[np.ndarray, dict]:
    with FramePool(points.shape[1], capacity=capacity, seed=config.seed) as pool:
        for index in range(0, len(points), 100):
            pool.add(f"row{index}", points[index : index + 100])
        return cluster(pool, config)


class FakeEncoder(SemanticEncoder):
    def __init__(self, name: str = "fake:1", fingerprint: str = "f") -> None:
        self.name, self.fingerprint = name, fingerprint
        self.sample_rate, self.frame_rate, self.dim = 16_000, Fraction(50), 5

    def encode(self, samples: torch.Tensor, lengths: torch.Tensor) -> Frames:
        raise AssertionError("not needed")


@pytest.fixture
def kmeans() -> KMeans:
    return KMeans(
        centroids=blobs()[1].astype(np.float32),
        encoder="fake:1",
        encoder_fingerprint="f",
        frame_rate=Fraction(50),
        choice=EncoderChoice(spec="fake", layer=1, rate=Fraction(25)),
        report={"seed": 3},
    )


@pytest.mark.parametrize("capacity", [100_000, 600])
def test_it_finds_the_centres_in_and_out_of_core(capacity: int) -> None:
    points, middle = blobs()
    centroids, report = fit(points, ClusteringConfig(clusters=6, batch=500), capacity)
    gaps = np.linalg.norm(middle[:, None] - centroids[None], axis=-1)
    # Out of core the mean is over all points, so it is closer than the sample could bring it.
    assert gaps.min(axis=1).max() < 0.03
    assert report["frames"] == 2400
    assert report["sampled_frames"] == min(capacity, 2400)
    assert report["clusters_used"] == 6
    assert report["inertia"] == pytest.approx(5 * 0.01, rel=0.1)
    assert report["cluster_perplexity"] == pytest.approx(6, rel=0.01)
    assert report["inertia_share_of_variance"] < 0.01
    assert report["passes"] == (2 if capacity == 600 else 0)


def test_all_frames_beat_the_sample() -> None:
    points = np.random.default_rng(0).standard_normal((6000, 5)).astype(np.float32)
    sample_only = fit(points, ClusteringConfig(clusters=50, passes=0), 300)[1]["inertia"]
    refined = fit(points, ClusteringConfig(clusters=50, passes=3, batch=500), 300)[1]["inertia"]
    assert refined < 0.97 * sample_only


def test_the_same_seed_gives_the_same_centres() -> None:
    points, _ = blobs(100)
    first, _ = fit(points, ClusteringConfig(clusters=20, batch=100, seed=5), 300)
    again, _ = fit(points, ClusteringConfig(clusters=20, batch=100, seed=5), 300)
    np.testing.assert_array_equal(first, again)
    other, _ = fit(points, ClusteringConfig(clusters=20, batch=100, seed=6), 300)
    assert not np.array_equal(first, other)


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(DataMismatch, match="2400 frames cannot make 2401 clusters"):
        fit(blobs()[0], ClusteringConfig(clusters=2401), 10_000)


@pytest.mark.parametrize(
    "options", [{"clusters": 0}, {"clusters": 70_000}, {"max_frames": 5}, {"iterations": 0}]
)
def test_impossible_settings_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(DataMismatch):
        ClusteringConfig(**options)


def test_assignment_is_to_the_nearest(kmeans: KMeans) -> None:
    points, middle = blobs()
    expected = np.linalg.norm(points[:, None] - middle[None], axis=-1).argmin(axis=1)
    tokens = kmeans.assign(points)
    assert tokens.dtype == np.uint16
    np.testing.assert_array_equal(tokens, expected)


def test_saving_and_loading_keeps_everything(kmeans: KMeans, tmp_path: Path) -> None:
    save_kmeans(kmeans, tmp_path)
    loaded = load_kmeans(tmp_path)
    np.testing.assert_array_equal(loaded.centroids, kmeans.centroids)
    assert loaded.tokens == kmeans.tokens
    assert loaded.choice == kmeans.choice
    assert loaded.report == {"seed": 3}
    assert loaded.tokens.codebook_size == 6


def test_tokens_know_their_centroids_and_encoder(kmeans: KMeans) -> None:
    moved = KMeans(
        centroids=kmeans.centroids + 1,
        encoder="fake:1",
        encoder_fingerprint="f",
        frame_rate=Fraction(50),
        choice=kmeans.choice,
    )
    assert moved.tokens.fingerprint != kmeans.tokens.fingerprint


def test_another_encoder_is_refused(kmeans: KMeans) -> None:
    kmeans.require_encoder(FakeEncoder(), where="km")
    with pytest.raises(DataMismatch, match="k-means km was fitted on fake:1, not on fake:2"):
        kmeans.require_encoder(FakeEncoder("fake:2", "g"), where="km")
    with pytest.raises(DataMismatch, match="other weights or settings"):
        kmeans.require_encoder(FakeEncoder("fake:1", "g"), where="km")


def _change(folder: Path, change: Callable[[dict], None]) -> None:
    path = folder / "config.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda document: document.update(kind="codec"), "holds a codec model where a kmeans"),
        (lambda document: document.update(format_version=9), "format version 9"),
        (lambda document: document["config"].update(clusters=7), "does not hold"),
        (lambda document: document["config"].pop("encoder"), "malformed config"),
    ],
)
def test_a_damaged_folder_is_one_sentence(
    kmeans: KMeans, tmp_path: Path, change: Callable[[dict], None], sentence: str
) -> None:
    save_kmeans(kmeans, tmp_path)
    _change(tmp_path, change)
    with pytest.raises(DataMismatch, match=sentence):
        load_kmeans(tmp_path)
