"""Named starting points for the settings of a run."""

from __future__ import annotations

from typing import Any

from stages.errors import DataMismatch
from stages.training.settings import TrainingSettings, overlay

# About an hour on two CPU cores with a few hours of speech: a small network and small batches,
# since steps are what is short. The rate falls exponentially, so that a run which a slow machine
# ends early is still good; the average of the weights does what a last cool-down would.
_MINI: dict[str, Any] = {
    "batch_size": 12,
    "micro_batch_seconds": 24.0,
    "ema_decay": 0.998,
    "log_every": 20,
    "valid_every": 500,
    "optimiser": {
        "learning_rate": 1e-3,
        "warmup_steps": 200,
        "decay_steps": 4_000,
        "final_ratio": 0.1,
    },
}
# One GPU of 24 GB, a day or two, about a thousand hours.
_BASE: dict[str, Any] = {
    "batch_size": 64,
    "micro_batch_seconds": 480.0,
    "precision": "bfloat16",
    "optimiser": {"learning_rate": 5e-4, "warmup_steps": 5_000, "decay_steps": 200_000},
}
# The paper's (section 4.1); beta and dropout are not stated there.
_350M: dict[str, Any] = {
    "batch_size": 256,
    "micro_batch_seconds": 480.0,
    "ema_decay": 0.9999,
    "precision": "bfloat16",
    "optimiser": {
        "learning_rate": 5e-4,
        "warmup_steps": 20_000,
        "decay": "exponential",
        "decay_steps": 500_000,
        "weight_decay": 1e-3,
    },
    "data": {"min_seconds": 0.0, "max_seconds": 30.0},
}

_SOUNDSTORM: dict[str, dict[str, Any]] = {
    "mini": {
        **_MINI,
        "data": {"min_seconds": 1.0, "max_seconds": 8.0, "speaker_power": 0.5},
        "network": {
            "layers": 6, "heads": 4, "width": 192, "feed_forward": 768, "kernel": 5,
            "dropout": 0.05,
        },
    },
    "base": {
        **_BASE,
        "network": {
            "layers": 12, "heads": 8, "width": 512, "feed_forward": 2048, "kernel": 5,
            "dropout": 0.1,
        },
    },
    "350m": {
        **_350M,
        "network": {
            "layers": 12, "heads": 16, "width": 1024, "feed_forward": 4096, "kernel": 5,
            "dropout": 0.1,
        },
    },
}  # fmt: skip

PRESETS: dict[str, dict[str, dict[str, Any]]] = {"soundstorm": _SOUNDSTORM}
"""By model, then by name."""


def preset(model: str, name: str) -> TrainingSettings:
    """The settings of a preset.

    Raises:
        DataMismatch: if there is no such model or preset.
    """
    if model not in PRESETS:
        raise DataMismatch(f"there is no model {model}; there are {', '.join(PRESETS)}")
    if name not in PRESETS[model]:
        raise DataMismatch(
            f"there is no preset {name} of {model}; there are {', '.join(PRESETS[model])}"
        )
    base = TrainingSettings(model=model, preset=name)
    return overlay(base, PRESETS[model][name], where=f"preset {name}")
