"""Model folders that need nothing but themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from stages.consistency.model import load_consistency, save_consistency
from stages.consistency.network import ConsistencyNetwork
from stages.errors import DataMismatch


def test_a_folder_gives_the_same_embeddings(network: ConsistencyNetwork, tmp_path: Path) -> None:
    save_consistency(tmp_path, config=network.config, weights=network.state_dict())
    loaded, file = load_consistency(tmp_path)
    assert loaded.config == network.config
    samples, lengths = torch.randn(2, 4000), torch.tensor([4000, 3000])
    assert torch.equal(loaded.embed(samples, lengths), network.embed(samples, lengths))
    assert not any(p.requires_grad for p in loaded.parameters())
    assert load_consistency(tmp_path)[1].fingerprint == file.fingerprint


def test_half_precision_is_half_as_large(network: ConsistencyNetwork, tmp_path: Path) -> None:
    weights = network.state_dict()
    save_consistency(tmp_path / "a", config=network.config, weights=weights)
    halves = {name: value.half() for name, value in weights.items()}
    save_consistency(tmp_path / "b", config=network.config, weights=halves)
    samples, lengths = torch.randn(1, 4000), torch.tensor([4000])
    (full, one), (half, two) = load_consistency(tmp_path / "a"), load_consistency(tmp_path / "b")
    embedded = half.embed(samples, lengths)
    assert embedded.dtype == torch.float32
    torch.testing.assert_close(embedded, full.embed(samples, lengths), rtol=0, atol=1e-2)
    assert one.fingerprint != two.fingerprint


def test_what_is_no_consistency_model_is_one_sentence(
    network: ConsistencyNetwork, best_rq: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataMismatch, match="holds a best-rq model where a consistency"):
        load_consistency(best_rq)
    save_consistency(tmp_path, config=network.config, weights={"projection.weight": torch.ones(1)})
    with pytest.raises(DataMismatch, match=r"do not fit its config\.json"):
        load_consistency(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    del document["config"]["head"]
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(DataMismatch, match="must have an encoder and a head"):
        load_consistency(tmp_path)
    document["config"]["head"] = {"heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(DataMismatch, match="head does not set feed_forward"):
        load_consistency(tmp_path)
