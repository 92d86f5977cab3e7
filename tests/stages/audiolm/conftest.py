"""Tiny stages of AudioLM, and generators slow and plain enough to be read beside the paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.audiolm.config import CoarseConfig, FineConfig, SemanticConfig, StageConfig
from stages.audiolm.model import AcousticModel, StageModel, token_kinds
from stages.audiolm.network import StageNetwork
from stages.audiolm.sampling import Sampling
from stages.shards.spec import TokenKind, TokenSpec
from stages.soundstorm.randomness import row_generator, row_quantiles

SEMANTIC = TokenSpec(
    kind="semantic", name="km", fingerprint="a" * 64, frame_rate=Fraction(25), codebook_size=7
)
ACOUSTIC = TokenSpec(
    kind="acoustic", name="codec", fingerprint="b" * 64, frame_rate=Fraction(50),
    codebook_size=11, levels=5,
)  # fmt: skip
SHAPE: dict[str, Any] = {"layers": 2, "heads": 2, "width": 16, "feed_forward": 32, "dropout": 0.0}
# At 50 Hz chunks of 20 and 10 frames; of semantic tokens, at 25 Hz, 20.
CONFIGS: dict[str, StageConfig] = {
    "semantic": SemanticConfig(
        semantic_codebook_size=7, chunk_seconds=0.8, overlap_seconds=0.4, **SHAPE
    ),
    "coarse": CoarseConfig(
        semantic_codebook_size=7, codebook_size=11, levels=2, chunk_seconds=0.4,
        overlap_seconds=0.12, **SHAPE,
    ),
    "dedup": CoarseConfig(
        semantic_codebook_size=7, codebook_size=11, levels=2, chunk_seconds=0.4,
        overlap_seconds=0.12, keep_duplicates=False, **SHAPE,
    ),
    "semantic of centroids": SemanticConfig(
        semantic_codebook_size=7, chunk_seconds=0.8, overlap_seconds=0.4, centroid_dim=3, **SHAPE
    ),
    "coarse of centroids": CoarseConfig(
        semantic_codebook_size=7, codebook_size=11, levels=2, chunk_seconds=0.4,
        overlap_seconds=0.12, centroid_dim=3, **SHAPE,
    ),
    "fine": FineConfig(
        codebook_size=11, levels=5, coarse_levels=2, chunk_seconds=0.2, overlap_seconds=0.06,
        **SHAPE,
    ),
}  # fmt: skip


def _make_stage(name: str, *, seed: int = 0, sharpness: float = 6.0) -> StageModel[Any]:
    config = CONFIGS[name]
    torch.manual_seed(seed)
    network = StageNetwork(config).eval().requires_grad_(False)
    network.head_weight.mul_(sharpness)  # an untrained network has no opinions
    if network.units is not None:
        network.units.centroids.normal_()
    if network.unit_scores is not None:
        network.unit_scores.outer.weight.mul_(sharpness)
    specs: dict[TokenKind, TokenSpec] = {"semantic": SEMANTIC, "acoustic": ACOUSTIC}
    tokens = {kind: specs[kind] for kind in token_kinds(config)}
    return StageModel(network=network, config=config, tokens=tokens, fingerprint=name[0] * 64)


def naive_choice(logits: list[float], quantile: float, sampling: Sampling) -> int:
    """The candidate at a quantile, in loops."""
    likeliest = sorted(range(len(logits)), key=lambda code: -logits[code])
    if sampling.temperature == 0:
        return likeliest[0]
    weights = [math.exp((value - max(logits)) / sampling.temperature) for value in logits]
    kept = set(likeliest[: sampling.top_k])
    if sampling.top_p is not None:
        total = sum(weights[code] for code in kept)
        inside: set[int] = set()
        for code in likeliest:
            if sum(weights[other] for other in inside) < sampling.top_p * total:
                inside.add(code)
        kept &= inside
    sought, total = quantile * sum(weights[code] for code in kept), 0.0
    for code in sorted(kept):
        total += weights[code]
        if sought < total:
            return code
    return max(kept)


def naive_generate(
    stage: StageModel[Any],
    row_id: str,
    condition: Tensor,
    given: Tensor,
    sampling: Sampling,
    *,
    chunk: int,
    overlap: int,
    seed: int = 0,
) -> list[list[int]]:
    """Sections III-B of AudioLM and 4.2 of the paper in loops: one row, no cache, whole chunks
    anew for every token.

    Args:
        stage: coarse or fine.
        row_id: decides the numbers.
        condition: `[T]` semantic or `[T, L]` coarse tokens.
        given: `[P, G]`.
        sampling: how to choose.
        chunk: frames.
        overlap: frames.
        seed: likewise.

    Returns:
        `[T][G]`.
    """
    config, T, G = stage.config, len(condition), stage.config.groups
    tokens = [[int(code) for code in frame] for frame in given]
    generator = row_generator(seed, f"{config.kind}/{row_id}")
    quantiles = row_quantiles(generator, T - len(given), G).tolist()
    start = 0 if len(given) < chunk else len(given) - overlap
    for t in range(len(given), T):
        if t - start == chunk:
            start = t - overlap
        end = min(start + chunk, T)
        frame: list[int] = []
        tokens.append(frame)
        for group in range(G):
            entries, positions = naive_chunk(config, condition[start:end], tokens[start:])
            with torch.inference_mode():
                features = stage.network.features(
                    torch.tensor([entries]), torch.tensor([positions])
                )
                logits = stage.network.head(group, features[0, -1]).tolist()
            frame.append(naive_choice(logits, quantiles[t - len(given)][group], sampling))
    return tokens


def naive_chunk(
    config: StageConfig, condition: Tensor, frames: list[list[int]]
) -> tuple[list[int], list[int]]:
    """Entries and positions of a chunk as far as it is known."""
    entries, positions = [], []
    if isinstance(config, CoarseConfig):
        before = None
        for t, token in enumerate(condition.tolist()):
            if config.keep_duplicates or token != before:
                entries.append(2 * 11 + token)
                positions.append(1 + 3 * t if config.keep_duplicates else len(positions))
            before = token
        entries.append(2 * 11 + 7)
        positions.append(0 if config.keep_duplicates else len(positions))
        stride, offset, first = 3, 2, 0
    else:
        for t, levels in enumerate(condition.tolist()):
            entries += [levels[0], 11 + levels[1]]
            positions += [1 + 5 * t, 2 + 5 * t]
        entries.append(5 * 11)
        positions.append(0)
        stride, offset, first = 5, 3, 2
    timed = not (isinstance(config, CoarseConfig) and not config.keep_duplicates)
    for t, frame in enumerate(frames):
        for group, code in enumerate(frame):
            entries.append((first + group) * 11 + code)
            positions.append(stride * t + offset + group if timed else len(positions))
    return entries, positions


@pytest.fixture(scope="session")
def make_stage() -> Callable[..., StageModel[Any]]:
    """`make_stage("coarse", seed=0)`: `semantic`, `coarse`, `dedup` or `fine`."""
    return _make_stage


@pytest.fixture(scope="session")
def acoustic_model() -> AcousticModel:
    """Two coarse levels of 11, three fine ones, at 50 Hz; 7 semantic tokens at 25 Hz."""
    return AcousticModel(coarse=_make_stage("coarse"), fine=_make_stage("fine"))


@pytest.fixture(scope="session")
def naive() -> Callable[..., list[list[int]]]:
    return naive_generate


@pytest.fixture(scope="session")
def choose_naively() -> Callable[..., int]:
    return naive_choice


@pytest.fixture(scope="session")
def specs() -> tuple[TokenSpec, TokenSpec]:
    """Of the semantic and the acoustic tokens."""
    return SEMANTIC, ACOUSTIC
