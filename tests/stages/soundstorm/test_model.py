"""Model folders: a network and its tokens come back as they were, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from stages.errors import DataMismatch
from stages.shards.spec import TokenSpec
from stages.soundstorm.model import from_model_file, to_model_file
from stages.soundstorm.network import SoundStorm

SEMANTIC = TokenSpec(
    kind="semantic", name="logmel+kmeans", fingerprint="a" * 64, frame_rate=Fraction(25),
    codebook_size=7,
)  # fmt: skip
ACOUSTIC = TokenSpec(
    kind="acoustic", name="codec", fingerprint="b" * 64, frame_rate=Fraction(75, 2),
    codebook_size=11, levels=4,
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture
def folder(network: SoundStorm, tmp_path: Path) -> Path:
    to_model_file(
        tmp_path / "run",
        config=network.config,
        weights=network.state_dict(),
        semantic=SEMANTIC,
        acoustic=ACOUSTIC,
        extra={"steps": 3},
    )
    return tmp_path / "run"


def test_round_trip(network: SoundStorm, folder: Path) -> None:
    model = from_model_file(folder, CPU)
    assert (model.semantic, model.acoustic) == (SEMANTIC, ACOUSTIC)
    assert model.network.config == network.config
    assert not model.network.training
    acoustic, semantic = torch.randint(12, (1, 5, 3)), torch.randint(7, (1, 5))
    with torch.inference_mode():
        assert torch.equal(
            model.network.features(acoustic, semantic), network.features(acoustic, semantic)
        )
    assert model.fingerprint == from_model_file(folder, CPU).fingerprint


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("kind",), "codec", "codec model where a soundstorm"),
        (("config", "width"), 20, "weights .* are not those"),
        (("config", "colour"), 20, "sets colour"),
        (("tokens",), {}, "does not say which tokens"),
        (("tokens", "semantic", "codebook_size"), 8, "semantic codebook of 7"),
        (("tokens", "acoustic", "levels"), 2, "3 levels while"),
        (("tokens", "acoustic", "frame_rate"), "fast", "malformed"),
    ],
)
def test_refuses_what_does_not_fit(
    folder: Path, path: tuple[str, ...], value: object, sentence: str
) -> None:
    document = json.loads((folder / "config.json").read_text())
    place = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    (folder / "config.json").write_text(json.dumps(document))
    with pytest.raises(DataMismatch, match=sentence):
        from_model_file(folder, CPU)


def test_does_not_write_a_contradiction(network: SoundStorm, tmp_path: Path) -> None:
    with pytest.raises(DataMismatch, match="acoustic codebook of 11 entries"):
        to_model_file(
            tmp_path,
            config=network.config,
            weights=network.state_dict(),
            semantic=SEMANTIC,
            acoustic=replace(ACOUSTIC, codebook_size=12),
        )
