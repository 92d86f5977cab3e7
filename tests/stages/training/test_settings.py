"""Presets, TOML and flags: what is taken, and the sentence for what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stages.errors import DataMismatch
from stages.soundstorm.config import SoundStormConfig
from stages.training.presets import PRESETS, preset
from stages.training.settings import (
    overlay,
    parse_assignments,
    read_toml,
    require_same_settings,
)


@pytest.mark.parametrize(
    ("model", "name"), [(model, name) for model in PRESETS for name in PRESETS[model]]
)
def test_every_preset_is_valid(model: str, name: str) -> None:
    assert preset(model, name).preset == name


def test_350m_is_the_paper_s() -> None:
    settings = preset("soundstorm", "350m")
    optimiser, data = settings.optimiser, settings.data
    assert settings.batch_size == 256
    assert (optimiser.learning_rate, optimiser.weight_decay) == (5e-4, 1e-3)
    assert (optimiser.warmup_steps, optimiser.decay_steps) == (20_000, 500_000)
    assert optimiser.decay == "exponential"
    assert (data.min_seconds, data.max_seconds, data.speaker_power) == (0.0, 30.0, 1.0)
    config = SoundStormConfig(
        levels=12, codebook_size=1024, semantic_codebook_size=1024, **settings.network
    )
    shape = (config.layers, config.heads, config.width, config.feed_forward, config.kernel)
    assert shape == (12, 16, 1024, 4096, 5)


def test_toml_and_flags_change_only_what_they_name(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("batch_size = 3\n[optimiser]\nlearning_rate = 1\n[network]\nlayers = 2\n")
    base = preset("soundstorm", "mini")
    settings = overlay(base, read_toml(str(path)), where="run.toml")
    flags = parse_assignments(["optimiser.clip_norm=0.5", "precision=bfloat16", "network.heads=2"])
    settings = overlay(settings, flags, where="--set")
    assert (settings.batch_size, settings.precision) == (3, "bfloat16")
    assert (settings.optimiser.learning_rate, settings.optimiser.clip_norm) == (1.0, 0.5)
    assert settings.optimiser.warmup_steps == base.optimiser.warmup_steps
    assert settings.network == {**base.network, "layers": 2, "heads": 2}


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("optimizer.lr=1", r"--set: there is no setting optimizer; there are .*optimiser"),
        ("optimiser.lr=1", r"no setting optimiser.lr; there are .*optimiser.learning_rate"),
        ("seeds=1", r"there are batch_size, .* optimiser, precision, recipe, saved_precision, "),
        ("preset=350m", r"^--set: preset is not a setting: use --preset 350m$"),
        ("model=codec", r"^--set: model is not a setting: use --model codec$"),
        ("batch_size=2.5", r"batch_size must be a whole number, not 2.5"),
        ("batch_size=true", r"batch_size must be a whole number, not True"),
        ("batch_size=0", r"the setting batch_size must be at least 1"),
        ("optimiser=3", r"optimiser is a table of settings, not 3"),
        ("network=3", r"network is a table of settings, not 3"),
        ("precision=fp8", r"the setting precision must be float32 or bfloat16"),
        ("data.max_seconds=inf", r"data.max_seconds must be a finite number, not inf"),
        ("optimiser.learning_rate=fast", r"optimiser.learning_rate must be a number, not 'fast'"),
        ("optimiser.decay=cosine", r"optimiser.decay must be exponential or linear"),
        ("data.min_seconds=31", r"data.min_seconds must be 0 to max_seconds"),
        ("batch_size", r"--set batch_size: write key=value"),
        (".x=1", r"--set .x=1: write key=value"),
    ],
)
def test_wrong_settings_are_named(assignment: str, sentence: str) -> None:
    with pytest.raises(DataMismatch, match=sentence):
        overlay(preset("soundstorm", "350m"), parse_assignments([assignment]), where="--set")


def test_wrong_files_models_and_presets_are_named(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    with pytest.raises(DataMismatch, match=r"run.toml cannot be read: No such file"):
        read_toml(str(path))
    path.write_text("batch_size = \n")
    with pytest.raises(DataMismatch, match=r"run.toml is not TOML: "):
        read_toml(str(path))
    with pytest.raises(DataMismatch, match=r"no model storm; there are soundstorm, codec"):
        preset("storm", "mini")
    with pytest.raises(DataMismatch, match=r"no preset huge of codec; there are mini, base"):
        preset("codec", "huge")


def test_the_first_setting_that_differs_is_named() -> None:
    def saved(**changes: Any) -> dict[str, Any]:
        return overlay(preset("soundstorm", "mini"), changes, where="test").to_json()

    require_same_settings(saved(), saved(), run="runs/a")
    with pytest.raises(
        DataMismatch, match=r"runs/a was started with network.layers = 3, not 4: use the same"
    ):
        require_same_settings(saved(), saved(network={"layers": 3}, seed=4), run="runs/a")


def test_another_model_or_preset_is_named_before_what_follows_from_it() -> None:
    mini, large = (preset("soundstorm", name).to_json() for name in ("mini", "350m"))
    with pytest.raises(DataMismatch, match=r"was started with preset = 'mini', not '350m':"):
        require_same_settings(large, mini, run="runs/a")
    with pytest.raises(
        DataMismatch,
        match=r"^runs/a holds a run of soundstorm, not of codec: use --model soundstorm to resume",
    ):
        require_same_settings(preset("codec", "base").to_json(), mini, run="runs/a")
