"""Fitting k-means on more frames than memory takes: faiss on a sample, then mini-batches on all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from stages.errors import DataMismatch, RowFailure
from stages.semantic.base import SemanticEncoder
from stages.semantic.encoding import encode_paths
from stages.semantic.frame_pool import FramePool, row_random
from stages.semantic.kmeans import EncoderChoice, KMeans, RefinerChoice
from stages.semantic.unit_search.refining import Refinement

_COPIES = 3
"""Times the sample is in memory at the peak: the reservoir, its slack and its sorted copy."""

_ROWS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class ClusteringConfig:
    """How to fit."""

    clusters: int = 1024
    """K; the paper's is 1024 (section 4.1)."""

    seed: int = 0

    iterations: int = 25
    """Of Lloyd's algorithm, by faiss, on the sample in memory."""

    passes: int = 2
    """Over all frames in mini-batches, where they are more than memory takes."""

    batch: int = 65_536
    """Frames of a mini-batch."""

    memory: int = 2 << 30
    """Bytes that frames may take."""

    max_frames: int | None = None
    """Use no more than about this many, of utterances drawn at random; None uses all."""

    def __post_init__(self) -> None:
        if not 1 <= self.clusters <= 1 << 16:
            raise DataMismatch(
                f"{self.clusters} clusters do not fit uint16 tokens: use between 1 and {1 << 16}"
            )
        if self.iterations < 1 or self.passes < 0 or self.batch < 1:
            raise DataMismatch("k-means needs at least one iteration and one frame in a batch")
        if self.max_frames is not None and self.max_frames < self.clusters:
            raise DataMismatch(
                f"at most {self.max_frames} frames cannot make {self.clusters} clusters"
            )


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """A fitted k-means, and what could not be read."""

    kmeans: KMeans
    utterances: int
    failures: list[tuple[str, str]]
    """Row id and reason."""


def fit_kmeans(
    encoder: SemanticEncoder,
    choice: EncoderChoice,
    rows: Sequence[dict[str, Any]],
    config: ClusteringConfig,
    *,
    refinement: Refinement | None = None,
    refiner: RefinerChoice | None = None,
    workers: int = 0,
    batch_seconds: float = 0.0,
    scratch: Path | None = None,
    advance: Callable[[int], None] = lambda rows: None,
) -> FitResult:
    """Encode rows and fit k-means on their frames.

    Args:
        encoder: whose frames.
        choice: how it was loaded, to be named in the k-means.
        rows: with `id` and `audio`, in any order.
        config: how to fit.
        refinement: moves the frames first, as it will those that are to be tokens.
        refiner: how that was loaded, to be named in the k-means.
        workers: processes that read audio ahead.
        batch_seconds: as for `encode_paths`.
        scratch: folder for frames that do not fit in memory.
        advance: told of rows as they are encoded.

    Raises:
        DataMismatch: if there are fewer frames than clusters, or the memory is too little.
    """
    capacity = config.memory // (4 * encoder.dim * _COPIES)
    if capacity < config.clusters:
        raise DataMismatch(
            f"{config.memory / (1 << 30):.3g} GiB hold {capacity} frames of {encoder.dim} numbers, "
            f"fewer than {config.clusters} clusters: allow more memory"
        )

    # In an order that is random but the rows' own, so that stopping early is a fair sample; by
    # other numbers than the pool's keys, or what comes first would have its first frame sampled.
    def place(row: dict[str, Any]) -> tuple[float, str]:
        return row_random(config.seed, f"order of {row['id']}").random(), row["id"]

    drawn = sorted(rows, key=place)
    failures: list[tuple[str, str]] = []
    utterances = 0
    with FramePool(encoder.dim, capacity=capacity, seed=config.seed, scratch=scratch) as pool:
        for start in range(0, len(drawn), _ROWS_AT_ONCE):
            part = drawn[start : start + _ROWS_AT_ONCE]
            if config.max_frames is not None and pool.total >= config.max_frames:
                break
            for index, encoded in encode_paths(
                encoder,
                [row["audio"] for row in part],
                workers=workers,
                batch_seconds=batch_seconds,
            ):
                advance(1)
                if isinstance(encoded, RowFailure):
                    failures.append((part[index]["id"], str(encoded)))
                    continue
                room = None if config.max_frames is None else config.max_frames - pool.total
                if room is None or room > 0:
                    frames = encoded.frames
                    if refinement is not None:
                        frames = refinement.frames(encoded.samples, frames)
                    pool.add(part[index]["id"], frames[:room])
                    utterances += 1
        _require_enough(pool.total, config.clusters, failures, utterances)
        centroids, report = cluster(pool, config)
    kmeans = KMeans(
        centroids=centroids,
        encoder=encoder.name,
        encoder_fingerprint=encoder.fingerprint,
        frame_rate=encoder.frame_rate,
        choice=choice,
        refiner=refiner,
        report={"utterances": utterances, **report},
    )
    return FitResult(kmeans=kmeans, utterances=utterances, failures=failures)


def _require_enough(
    frames: int, clusters: int, failures: Sequence[tuple[str, str]] = (), utterances: int = 0
) -> None:
    """Refuse too few frames, with the reason where recordings could not be read."""
    if frames >= clusters:
        return
    unread = ""
    if failures:
        (row_id, reason), *_ = failures
        unread = (
            f" ({len(failures)} of {len(failures) + utterances} utterances could not be read; the "
            f"first: {row_id}: {reason})"
        )
    raise DataMismatch(
        f"{frames} frames cannot make {clusters} clusters{unread}: give more speech or ask for "
        "fewer clusters"
    )


def cluster(
    pool: FramePool, config: ClusteringConfig
) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
    """Fit `[K, D]` centres on a pool's frames.

    Returns:
        The centres, and a report: seed, frames, sample, inertia (mean squared distance to the
        nearest centre, over all frames), its share of the variance, and how clusters are used.

    Raises:
        DataMismatch: if there are fewer frames than clusters.
    """
    _require_enough(pool.total, config.clusters)
    sample = pool.sample()
    start = faiss.Kmeans(
        sample.shape[1],
        config.clusters,
        niter=config.iterations,
        seed=config.seed,
        # k-means++ by a Markov chain (Bachem et al. 2016): as good a start at a tenth of its time.
        init_method=faiss.ClusteringInitMethod_AFK_MC2,
        # faiss would take 256 frames a centre and warn under 39; the memory bound is ours.
        max_points_per_centroid=1 << 30,
        min_points_per_centroid=1,
    )
    start.train(sample)
    centroids: npt.NDArray[np.float32] = np.array(start.centroids, np.float32)
    sampled = len(sample)
    del sample
    if pool.overflowed:
        _refine(pool, centroids, config)
    report = {
        "seed": config.seed,
        "iterations": config.iterations,
        "passes": config.passes if pool.overflowed else 0,
        "frames": pool.total,
        "sampled_frames": sampled,
        **_evaluate(pool, centroids, config.batch),
    }
    return centroids, report


def _refine(pool: FramePool, centroids: npt.NDArray[np.float32], config: ClusteringConfig) -> None:
    """Mini-batch k-means (Sculley 2010) in place: each centre the mean of all it was ever given."""
    counts = np.zeros(len(centroids))
    for number in range(config.passes):
        random = np.random.default_rng([config.seed, number])
        for block in pool.blocks(config.batch, random):
            labels, _ = _nearest(centroids, block)
            added = np.bincount(labels, minlength=len(centroids))
            sums = np.zeros(centroids.shape)
            np.add.at(sums, labels, block)
            counts += added
            hit = added > 0
            step = sums[hit] - added[hit, None] * centroids[hit].astype(np.float64)
            centroids[hit] += (step / counts[hit, None]).astype(np.float32)


def _evaluate(pool: FramePool, centroids: npt.NDArray[np.float32], batch: int) -> dict[str, Any]:
    """Inertia, explained variance and cluster use over all frames."""
    use = np.zeros(len(centroids), np.int64)
    distance = 0.0
    total, squares = np.zeros(centroids.shape[1]), 0.0
    for block in pool.blocks(batch):
        labels, distances = _nearest(centroids, block)
        use += np.bincount(labels, minlength=len(centroids))
        distance += float(distances.sum(dtype=np.float64))
        total += block.sum(axis=0, dtype=np.float64)
        squares += float(np.square(block, dtype=np.float64).sum())
    frames = int(use.sum())
    variance = squares / frames - float(np.square(total / frames).sum())
    share = use[use > 0] / frames
    return {
        "inertia": distance / frames,
        "inertia_share_of_variance": distance / frames / variance if variance > 0 else 0.0,
        "clusters_used": int((use > 0).sum()),
        "cluster_perplexity": float(np.exp(-(share * np.log(share)).sum())),
        "smallest_cluster": int(use.min()),
        "largest_cluster": int(use.max()),
    }


def _nearest(
    centroids: npt.NDArray[np.float32], frames: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    distances, labels = faiss.knn(frames, centroids, 1)
    return labels[:, 0], distances[:, 0]
