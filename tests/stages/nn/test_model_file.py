"""Model folders: what is written comes back, and nothing else is taken for a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from stages.errors import DataMismatch, StageFailure
from stages.nn.model_file import WEIGHTS_NAME, load_model_file, read_model_config, save_model_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model_file(
        tmp_path / "model",
        kind="codec",
        config={"width": 3},
        weights={"a": torch.arange(6.0).view(2, 3).T, "b": torch.ones(1)},
        tokens={"acoustic": {"name": "x"}},
        extra={"steps": 5},
    )
    return tmp_path / "model"


def test_round_trip(folder: Path) -> None:
    file = load_model_file(folder, kind="codec")
    assert (file.kind, file.config, file.extra) == ("codec", {"width": 3}, {"steps": 5})
    assert file.tokens == {"acoustic": {"name": "x"}}
    assert torch.equal(file.weights["a"], torch.arange(6.0).view(2, 3).T)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_fingerprint_follows_weights_and_config_alone(folder: Path, tmp_path: Path) -> None:
    file = load_model_file(folder)

    def fingerprint(**change: object) -> str:
        parts = {"kind": "codec", "config": file.config, "weights": file.weights, **change}
        save_model_file(tmp_path / "other", **parts)  # type: ignore[arg-type]
        return load_model_file(tmp_path / "other").fingerprint

    assert fingerprint(extra={"steps": 6}) == file.fingerprint
    assert fingerprint(config={"width": 4}) != file.fingerprint
    assert fingerprint(weights={"a": torch.ones(1)}) != file.fingerprint


def test_refuses_another_kind(folder: Path) -> None:
    with pytest.raises(DataMismatch, match="holds a codec model where a soundstorm is needed"):
        load_model_file(folder, kind="soundstorm")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not JSON"),
        ("[]", "which kind"),
        (json.dumps({"kind": "codec", "format_version": 99}), "format version 99"),
        (json.dumps({"kind": "codec", "format_version": 1}), "has no config"),
    ],
)
def test_refuses_other_documents(folder: Path, text: str, sentence: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(DataMismatch, match=sentence):
        read_model_config(folder)


def test_a_config_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(DataMismatch, match=r"config\.json is no file that can be read \(Is a dir"):
        read_model_config(tmp_path)


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StageFailure, match=r"file/model cannot be written"):
        save_model_file(tmp_path / "file" / "model", kind="codec", config={}, weights={})


def test_refuses_damage_and_absence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataMismatch, match="is no model"):
        load_model_file(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(DataMismatch, match="is damaged"):
        load_model_file(folder)
    weights.unlink()
    with pytest.raises(DataMismatch, match="never saved"):
        load_model_file(folder)


def test_others_may_read_it_as_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    save_model_file(tmp_path, kind="test", config={}, weights={"a": torch.ones(2)})
    assert (tmp_path / WEIGHTS_NAME).stat().st_mode == (tmp_path / "any").stat().st_mode
