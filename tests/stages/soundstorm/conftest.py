"""A tiny SoundStorm, and a decoder slow and plain enough to be read beside the paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.decoding import DecodeOptions, DecodeRequest
from stages.soundstorm.guidance import guidance_at
from stages.soundstorm.network import SoundStorm
from stages.soundstorm.randomness import row_noise

MakeNetwork = Callable[..., SoundStorm]
MakeRequests = Callable[..., list[DecodeRequest]]
Broken = Callable[..., ModuleType]
NaiveDecode = Callable[[SoundStorm, DecodeRequest, DecodeOptions], tuple[list[list[int]], ...]]


def _make_network(*, levels: int = 3, seed: int = 0, sharpness: float = 6.0) -> SoundStorm:
    torch.manual_seed(seed)
    config = SoundStormConfig(
        levels=levels,
        codebook_size=11,
        semantic_codebook_size=7,
        layers=2,
        heads=2,
        width=16,
        feed_forward=32,
        dropout=0.0,
        unconditional=True,
    )
    network = SoundStorm(config).eval()
    with torch.no_grad():  # an untrained network is unsure of everything; this one has opinions
        network.head_weight.mul_(sharpness)
    return network


class SpyNetwork(SoundStorm):
    """Embeds tokens as unit vectors, so that its input can be read back at each pass."""

    def __init__(self) -> None:
        super().__init__(
            SoundStormConfig(
                levels=3,
                codebook_size=11,
                semantic_codebook_size=7,
                layers=1,
                heads=2,
                width=44,
                feed_forward=16,
                dropout=0.0,
            )
        )
        with torch.no_grad():
            rows = 3 * 11 + 1
            self.acoustic_table.copy_(torch.eye(rows, 44))
            self.semantic_table.copy_(torch.eye(rows + 7, 44)[rows:])
            self.head_weight.mul_(6.0)
        self.inputs: list[Tensor] = []

    def features_of(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        codes = frames[..., : 3 * 11].unflatten(-1, (3, 11))
        known, code = codes.max(dim=-1)
        assert torch.equal(frames[..., 3 * 11], (known == 0).sum(dim=-1).float())
        self.inputs.append(torch.where(known == 0, self.config.mask_token, code))  # [B, T, Q]
        return super().features_of(frames, mask)


def _make_spy() -> SpyNetwork:
    torch.manual_seed(0)
    return SpyNetwork().eval()


def _broken(module: ModuleType, *changes: tuple[str, str]) -> ModuleType:
    """A copy of a module with pieces of its source replaced, each of which must be there once."""
    source = Path(str(module.__file__)).read_text()
    for old, new in changes:
        assert source.count(old) == 1, f"{module.__name__} has no single {old!r} to break"
        source = source.replace(old, new)
    copy = ModuleType(module.__name__)
    exec(compile(source, f"broken {module.__name__}", "exec"), copy.__dict__)
    return copy


def _make_requests(
    lengths: Sequence[int], prompts: Sequence[int], *, levels: int = 3, seed: int = 0
) -> list[DecodeRequest]:
    generator = torch.Generator().manual_seed(seed)
    return [
        DecodeRequest(
            row_id=f"row-{length}-{prompt}",
            semantic=torch.randint(7, (length,), generator=generator),
            prompt=torch.randint(11, (prompt, levels), generator=generator),
        )
        for length, prompt in zip(lengths, prompts, strict=True)
    ]


def _naive_decode(
    network: SoundStorm, request: DecodeRequest, options: DecodeOptions
) -> tuple[list[list[int]], list[list[int]]]:
    """Section 3.3 in loops, one row: the whole input anew and all logits on every pass.

    Returns:
        Tokens and the passes that set them, `[T][Q]`.
    """
    T, Q = len(request.semantic), network.config.levels
    P = len(request.prompt)
    mask = network.config.mask_token
    tokens = [[mask] * Q for _ in range(T)]
    passes = [[0] * Q for _ in range(T)]
    for t in range(P):
        tokens[t] = [int(code) for code in request.prompt[t]]
    groups: list[tuple[list[int], int]] = []  # levels that share their passes, and those
    for q, n in enumerate(options.iterations):
        if n == 0:
            groups[-1][0].append(q)
        else:
            groups.append(([q], n))
    noise = row_noise(
        options.seed, request.row_id, T - P, [n for levels, n in groups for _ in levels]
    )
    pass_number = 0
    for levels, n in groups:
        for i in range(n):
            pass_number += 1
            masked = [t for t in range(T) if tokens[t][levels[0]] == mask]
            all_logits = _all_logits(network, tokens, request.semantic)
            if options.guidance != 1.0:
                nothing = torch.full_like(request.semantic, network.config.no_condition)
                without = _all_logits(network, tokens, nothing)
                far = torch.tensor([guidance_at(options.guidance, q) for q in range(Q)])
                all_logits = without + far[:, None, None] * (all_logits - without)
            candidates: dict[tuple[int, int], int] = {}
            confidence: dict[int, float] = dict.fromkeys(masked, 0.0)
            for t in masked:
                for q in levels:
                    logits = [float(value) for value in all_logits[q, t]]
                    if i == n - 1:
                        candidates[t, q] = max(range(len(logits)), key=lambda c: logits[c])
                        confidence[t] += logits[candidates[t, q]]
                        continue
                    quantile = float(noise[q].choice[i, t - P])
                    candidates[t, q] = _inverse(logits, options.temperature, quantile)
                    gumbel = float(noise[q].gumbel[i, t - P])
                    confidence[t] += logits[candidates[t, q]] + (1 - i / (n - 1)) * gumbel
            stay = math.floor((T - P) * math.cos(math.pi / 2 * (i + 1) / n) + 1e-9)
            surest = sorted(masked, key=lambda t: -confidence[t])
            for t in surest[: len(masked) - stay]:
                for q in levels:
                    tokens[t][q] = candidates[t, q]
                    passes[t][q] = pass_number
    return tokens, passes


@torch.inference_mode()
def _all_logits(network: SoundStorm, tokens: list[list[int]], semantic: Tensor) -> Tensor:
    """`[Q, T, C]`."""
    features = network.features(torch.tensor([tokens]), semantic[None])
    return torch.stack([network.head(q, features[0]) for q in range(network.config.levels)])


def _inverse(logits: list[float], temperature: float, quantile: float) -> int:
    """The candidate whose share of the cumulative distribution holds the quantile."""
    if temperature == 0:
        return max(range(len(logits)), key=lambda c: logits[c])
    weights = [math.exp((logit - max(logits)) / temperature) for logit in logits]
    sought, total = quantile * sum(weights), 0.0
    for c, weight in enumerate(weights):
        total += weight
        if sought < total:
            return c
    return len(weights) - 1


@pytest.fixture(scope="session")
def make_network() -> MakeNetwork:
    """`make_network(levels=3, seed=0)`: 11 codes a level, 7 semantic tokens, width 16."""
    return _make_network


@pytest.fixture
def network() -> SoundStorm:
    return _make_network()


@pytest.fixture(scope="session")
def make_requests() -> MakeRequests:
    """`make_requests(lengths, prompts)` for `make_network`'s tokens."""
    return _make_requests


@pytest.fixture(scope="session")
def naive_decode() -> NaiveDecode:
    return _naive_decode


@pytest.fixture(scope="session")
def make_spy() -> Callable[[], SpyNetwork]:
    """A network for `make_requests`' tokens that keeps in `inputs` what it saw, `[B, T, Q]`."""
    return _make_spy


@pytest.fixture(scope="session")
def broken() -> Broken:
    """`broken(module, (old, new), ...)`: see `_broken`."""
    return _broken
