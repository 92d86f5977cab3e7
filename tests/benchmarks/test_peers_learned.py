"""What both models are trained on and asked in the comparison, and how each answers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F

from benchmarks.peers.measure import ROOT
from benchmarks.peers.ours import learning, soundstorm, tokens
from benchmarks.peers.sizes import Shape
from stages.errors import DataMismatch
from stages.shards.provenance import Provenance, StageRecord
from stages.shards.rows import ID, SEMANTIC, acoustic_field
from stages.shards.spec import TokenSpec
from stages.shards.writer import write_shard

SHAPE = Shape(
    layers=2, heads=2, width=16, feed_forward=32, levels=3, codebook_size=11, semantic_size=7
).to_json()

PEER = Path(os.environ.get("PEERS", ROOT / ".venv-peers")) / "bin" / "python"


@pytest.fixture
def shards(tmp_path: Path) -> Callable[[str], str]:
    """`shards(name)`: a folder of token shards of six utterances of 20 to 45 frames."""

    def make(name: str) -> str:
        kinds: dict[str, Any] = {
            "semantic": {"codebook_size": 7, "frame_rate": Fraction(25)},
            "acoustic": {"codebook_size": 11, "frame_rate": Fraction(50), "levels": 3},
        }
        records = tuple(
            StageRecord(
                stage=f"tokenize-{kind}",
                version="0",
                settings={},
                tokens=TokenSpec(kind=kind, name="made-up", fingerprint=kind[0] * 64, **spec),
            )
            for kind, spec in kinds.items()
        )
        random = np.random.default_rng(len(name))
        rows = []
        for index in range(6):
            frames = 20 + 5 * index
            semantic = random.integers(0, 7, (frames + 1) // 2).astype(np.uint16)
            acoustic = random.integers(0, 11, (frames, 3)).astype(np.uint16)
            rows.append({"id": f"u{index}", "semantic": semantic, "acoustic": acoustic})
        schema = pa.schema([ID, SEMANTIC, acoustic_field(3)])
        shard = tmp_path / name / "part-00000-of-00001.parquet"
        write_shard(shard, [rows], schema, Provenance(records))
        return str(tmp_path / name)

    return make


@pytest.fixture
def given(shards: Callable[[str], str], tmp_path: Path) -> dict[str, Any]:
    """Windows and questions: what `write_tokens` says of them."""
    return tokens.write_tokens(
        {
            "train": shards("train"), "valid": shards("valid"), "folder": str(tmp_path),
            "steps": 4, "batch": 2, "window": 30, "rows": 3, "longest": 25, "codec": None,
            "kmeans": None,
        }
    )  # fmt: skip


def test_windows_and_questions(given: dict[str, Any]) -> None:
    assert (given["levels"], given["codebook_size"], given["semantic_size"]) == (3, 11, 7)
    with np.load(given["batches"]) as batches:
        assert batches["acoustic"].shape == (4, 2, 30, 3)
        assert batches["semantic"].shape == (4, 2, 30)
        assert batches["rates"].tolist() == pytest.approx(
            [tokens.PEAK_RATE * (1 - 0.95 * part) for part in (0.25, 0.5, 0.75, 1.0)]
        )
    with np.load(given["questions"]) as asked:
        assert int(asked["rows"]) == 3
        for row in range(3):
            truth, hidden = asked[f"{row}/acoustic"], asked[f"{row}/given"]
            assert len(truth) <= 25
            assert sorted(asked[f"{row}/level"]) == [0, 1, 2]
            for example, level in enumerate(asked[f"{row}/level"]):
                masked = asked[f"{row}/masked"][example]
                assert (hidden[example, masked, level] == 11).all()
                assert (hidden[example, ~masked, level] == truth[~masked, level]).all()
                assert (hidden[example, :, :level] == truth[:, :level]).all()
                after = np.arange(len(truth)) >= asked[f"{row}/delimiter"][example]
                assert (hidden[example, after, level + 1 :] == 11).all()
                assert (hidden[example, ~after] == truth[~after]).all()


def test_no_window_fits(shards: Callable[[str], str], tmp_path: Path) -> None:
    with pytest.raises(DataMismatch, match=r"no utterance of .* has the 46 frames"):
        tokens.write_tokens(
            {
                "train": shards("train"), "valid": shards("valid"), "folder": str(tmp_path),
                "steps": 1, "batch": 1, "window": 46, "rows": 1, "longest": 10,
                "codec": None, "kmeans": None,
            }
        )  # fmt: skip


def test_frequencies_are_the_windows(given: dict[str, Any]) -> None:
    """Of level 2, by a naive count."""
    with np.load(given["batches"]) as batches, np.load(given["questions"]) as asked:
        counts = np.ones(11)
        for code in batches["acoustic"][..., 1].ravel():
            counts[code] += 1
        expected = 0.0
        for row in range(3):
            (example,) = np.flatnonzero(asked[f"{row}/level"] == 1)
            for frame in np.flatnonzero(asked[f"{row}/masked"][example]):
                code = asked[f"{row}/acoustic"][frame, 1]
                expected -= float(np.log(counts[code] / counts.sum()))
    assert given["frequencies"][1] == pytest.approx(expected)


def test_our_answers_are_those_to_the_questions(given: dict[str, Any]) -> None:
    """By each level's own logits of the input that the peer is given, one example at a time."""
    network = soundstorm.build(SHAPE).eval()
    found = learning.ask(network, Path(given["questions"]), levels=3)
    nats, count = torch.zeros(3), torch.zeros(3)
    with np.load(given["questions"]) as asked, torch.inference_mode():
        for row in range(3):
            truth = torch.from_numpy(asked[f"{row}/acoustic"].astype(np.int64))
            semantic = torch.from_numpy(asked[f"{row}/semantic"].astype(np.int64))
            for example, level in enumerate(asked[f"{row}/level"].tolist()):
                masked = torch.from_numpy(asked[f"{row}/masked"][example])
                hidden = torch.from_numpy(asked[f"{row}/given"][example].astype(np.int64))
                features = network.features(hidden[None], semantic[None])[0, masked]
                logits = network.head(level, features)
                nats[level] += F.cross_entropy(logits, truth[masked, level], reduction="sum")
                count[level] += int(masked.sum())
    assert found["tokens"] == count.tolist()
    assert found["nats"] == pytest.approx(nats.tolist(), rel=1e-4)


def test_our_training_uses_the_rates(given: dict[str, Any], monkeypatch: Any) -> None:
    used: list[float] = []
    step = learning.step

    def noted(network: Any, optimiser: Any, *rest: Any) -> float:
        used.append(optimiser.param_groups[0]["lr"])
        return step(network, optimiser, *rest)

    monkeypatch.setattr(learning, "step", noted)
    found = learning.learn({"threads": 1, "shape": SHAPE, "weight_decay": 1e-3, **given})
    with np.load(given["batches"]) as batches:
        assert used == batches["rates"].tolist()
    assert len(found["training_loss"]) == 4
    assert sum(found["nats"]) / sum(found["tokens"]) == pytest.approx(np.log(11), abs=0.6)


def test_ours_can_start_from_the_codec(
    given: dict[str, Any], shards: Callable[[str], str], tmp_path: Path, monkeypatch: Any
) -> None:
    codebooks, centroids = torch.randn(3, 11, 4), torch.randn(7, 2)
    models = "stages.training.tasks.token_models"
    monkeypatch.setattr(f"{models}.codebooks_of", lambda codec, tokens: codebooks)
    monkeypatch.setattr(f"{models}.centroids_of", lambda kmeans, tokens: centroids)
    named = tokens.write_tokens(
        {
            "train": shards("train"), "valid": shards("valid"), "folder": str(tmp_path / "named"),
            "steps": 1, "batch": 2, "window": 30, "rows": 3, "longest": 25, "codec": "a codec",
            "kmeans": "its k-means",
        }
    )  # fmt: skip
    assert given["start"] is None
    first: list[torch.Tensor] = []
    step = learning.step

    def noted(network: Any, *rest: Any) -> float:
        first.append(network.semantic_table.detach().clone())
        return step(network, *rest)

    monkeypatch.setattr(learning, "step", noted)
    learning.learn({"threads": 1, "shape": SHAPE, "weight_decay": 1e-3, **named})
    far = torch.pdist(centroids - centroids.mean(dim=0))
    assert float(torch.corrcoef(torch.stack([torch.pdist(first[0]), far]))[0, 1]) > 0.7
    learning.learn({"threads": 1, "shape": SHAPE, "weight_decay": 1e-3, **given})
    assert not torch.allclose(first[0], first[1])


@pytest.mark.skipif(not PEER.exists(), reason=f"the peers are not installed: no {PEER}")
def test_the_adapter_gives_the_logits_that_the_peer_is_trained_by() -> None:
    """Its own loss, without replaced tokens, is that of the adapter's logits at the same masks."""
    code = f"""
import torch, torch.nn.functional as F
from benchmarks.peers.theirs.learning import logits_of
from benchmarks.peers.theirs.soundstorm import build
model = build({SHAPE!r}).eval()
model.no_replace_prob = model.random_token_prob = 0.0
acoustic = torch.randint(11, (2, 20, 3))
semantic = torch.randint(7, (2, 20))
seen = []
model.net.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
loss, _ = model(acoustic.clone(), cond_semantic_token_ids=semantic)
given = seen[0].view(2, 20, 3)
hidden = given == 11
level = int(hidden.any(dim=(0, 1)).nonzero()[0])
masked = hidden[:, :, level]
logits = logits_of(model, given, semantic)[:, :, level][masked]
assert torch.allclose(loss, F.cross_entropy(logits, acoustic[:, :, level][masked]), rtol=1e-4)
print("same")
"""
    done = subprocess.run(
        [str(PEER), "-c", code], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert done.stdout == "same\n", done.stderr
