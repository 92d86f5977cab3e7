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
# The paper's (section 4.1); the decay's end, betas and dropout are not stated there.
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

_MINI_CONFORMER = {
    "layers": 6, "heads": 4, "width": 192, "feed_forward": 768, "kernel": 5, "dropout": 0.05,
}  # fmt: skip
_BASE_CONFORMER = {
    "layers": 12, "heads": 8, "width": 512, "feed_forward": 2048, "kernel": 5, "dropout": 0.1,
}  # fmt: skip
_350M_CONFORMER = {
    "layers": 12, "heads": 16, "width": 1024, "feed_forward": 4096, "kernel": 5, "dropout": 0.1,
}  # fmt: skip

_SOUNDSTORM: dict[str, dict[str, Any]] = {
    # Compared in runs of minutes: docs/training.md. The average tames the high rate.
    "mini": {
        **_MINI,
        "batch_size": 8,
        "data": {"min_seconds": 1.0, "max_seconds": 8.0, "speaker_power": 0.5},
        "optimiser": {
            "learning_rate": 2e-3,
            "warmup_steps": 100,
            "decay_steps": 6_000,
            "final_ratio": 0.05,
        },
        "network": {**_MINI_CONFORMER, "layers": 4},
        "recipe": {"level_power": 1.0},
    },
    "base": {**_BASE, "network": _BASE_CONFORMER},
    "350m": {**_350M, "network": _350M_CONFORMER},
}

_BEST_RQ: dict[str, dict[str, Any]] = {
    "mini": {
        **_MINI,
        "micro_batch_seconds": 64.0,  # its frames are twice as long
        "data": {"min_seconds": 2.0, "max_seconds": 12.0, "speaker_power": 0.5},
        "network": {**_MINI_CONFORMER, "codebook_size": 1024},
    },
    "base": {**_BASE, "network": _BASE_CONFORMER},
    "350m": {**_350M, "network": _350M_CONFORMER},
}

# Names what it hears, so it learns in minutes what BEST-RQ does not in hours of so little speech.
_STUDENT: dict[str, dict[str, Any]] = {
    "mini": {
        **_MINI,
        "batch_size": 8,
        "micro_batch_seconds": 64.0,
        "ema_decay": 0.99,
        "data": {"min_seconds": 2.0, "max_seconds": 8.0, "speaker_power": 0.5},
        "optimiser": {
            "learning_rate": 2e-3,
            "warmup_steps": 100,
            "decay_steps": 1_400,
            "final_ratio": 0.05,
        },
        "network": {**_MINI_CONFORMER, "layers": 4, "dropout": 0.1},
    },
    "base": {**_BASE, "network": _BASE_CONFORMER},
    "350m": {**_350M, "network": _350M_CONFORMER},
}

# Small, since it ships, and heard through a teacher that is five times as large: for a GPU.
# Played at 9/10 of their speed, the longest windows are the 30 s that the teacher hears.
_BOTTLENECK_DATA = {"max_seconds": 27.0}
_BOTTLENECK: dict[str, dict[str, Any]] = {
    "mini": {
        **_MINI,
        "batch_size": 32,
        "micro_batch_seconds": 128.0,
        "ema_decay": 0.999,
        "valid_examples": 32,
        "data": {"min_seconds": 4.0, "max_seconds": 4.0, "speaker_power": 0.5},
        "optimiser": {
            "learning_rate": 1e-3,
            "warmup_steps": 200,
            "decay_steps": 6_000,
            "final_ratio": 0.05,
        },
        "network": {**_MINI_CONFORMER, "layers": 3, "feed_forward": 512},
    },
    "base": {**_BASE, "data": _BOTTLENECK_DATA, "network": _BASE_CONFORMER},
    "350m": {**_350M, "data": _BOTTLENECK_DATA, "network": _350M_CONFORMER},
}
_UNIT_TO_MEL: dict[str, dict[str, Any]] = {
    "mini": {
        **_BOTTLENECK["mini"],
        "batch_size": 8,
        "micro_batch_seconds": 48.0,
        "ema_decay": 0.995,
        "data": {"min_seconds": 6.0, "max_seconds": 6.0, "speaker_power": 0.5},
        "network": {**_MINI_CONFORMER, "layers": 2, "feed_forward": 512},
    },
    "base": {**_BOTTLENECK["base"], "network": {**_BASE_CONFORMER, "layers": 4}},
    "350m": {**_BOTTLENECK["350m"], "network": {**_350M_CONFORMER, "layers": 4}},
}
_REFINER: dict[str, dict[str, Any]] = {
    "mini": {**_UNIT_TO_MEL["mini"], "network": _MINI_CONFORMER},
    "base": {**_BOTTLENECK["base"], "network": _BASE_CONFORMER},
    "350m": {**_BOTTLENECK["350m"], "network": _350M_CONFORMER},
}

# Only the head is trained, on the mini best-rq's frames, so minutes do. More recordings at once are
# harder to tell apart; 350m has the paper's lengths of crops and width of embeddings.
_CONSISTENCY: dict[str, dict[str, Any]] = {
    "mini": {
        **_MINI,
        "batch_size": 32,
        "ema_decay": 0.98,
        "valid_every": 100,
        "data": {"min_seconds": 1.5, "max_seconds": 5.0, "speaker_power": 0.5},
        "optimiser": {
            "learning_rate": 1e-3,
            "warmup_steps": 30,
            "decay_steps": 500,
            "final_ratio": 0.05,
        },
        "network": {"heads": 4, "feed_forward": 384, "dim": 128},
    },
    "base": {
        **_BASE,
        "batch_size": 256,
        "data": {"min_seconds": 2.0, "max_seconds": 5.0},
        "network": {"heads": 8, "feed_forward": 2048, "dim": 512},
    },
    "350m": {
        **_350M,
        "data": {"min_seconds": 2.0, "max_seconds": 5.0},
        "network": {"heads": 16, "feed_forward": 4096, "dim": 1024},
    },
}

# Short windows of one length: no padding, and many speakers in a step. The codes are k-means'
# before the first step; what is trained is small and done in minutes.
_CODEC: dict[str, dict[str, Any]] = {
    "mini": {
        **_MINI,
        "batch_size": 16,
        "micro_batch_seconds": 32.0,
        "ema_decay": 0.0,
        "data": {"min_seconds": 2.0, "max_seconds": 2.0, "speaker_power": 0.5},
        "optimiser": {
            "learning_rate": 1e-3,
            "warmup_steps": 30,
            "decay_steps": 600,
            "final_ratio": 0.05,
        },
    },
    "base": {
        **_BASE,
        "ema_decay": 0.0,
        "data": {"min_seconds": 4.0, "max_seconds": 4.0},
        "network": {"width": 512, "hidden": 1536, "blocks": 6},
    },
}

_ADVERSARIAL = {"beta1": 0.8, "beta2": 0.99, "weight_decay": 0.0}  # as Vocos and HiFi-GAN have it
_VOCODER: dict[str, dict[str, Any]] = {
    "mini": {
        **_MINI,
        "batch_size": 16,
        "micro_batch_seconds": 16.0,
        "data": {"min_seconds": 1.0, "max_seconds": 1.0, "speaker_power": 0.5},
        "optimiser": {**_MINI["optimiser"], **_ADVERSARIAL},
        "network": {"width": 256, "hidden": 768, "blocks": 6},
        "recipe": {"adversarial_from": 2_500, "quantised_from": 3_500, "filters": 16},
    },
    "base": {
        **_BASE,
        "data": {"min_seconds": 2.0, "max_seconds": 2.0},
        "optimiser": {**_BASE["optimiser"], **_ADVERSARIAL},
        "recipe": {"adversarial_from": 20_000, "quantised_from": 150_000},
    },
}

# Minutes on a CPU, once the pitch is tracked.
_SOURCE_FILTER: dict[str, dict[str, Any]] = {
    "mini": {
        **_MINI,
        "batch_size": 16,
        "micro_batch_seconds": 64.0,
        "ema_decay": 0.99,
        "valid_every": 100,
        "data": {"min_seconds": 4.0, "max_seconds": 4.0, "speaker_power": 0.5},
        "optimiser": {
            "learning_rate": 2e-3,
            "warmup_steps": 50,
            "decay_steps": 800,
            "final_ratio": 0.02,
        },
    },
    "base": {
        **_BASE,
        "data": {"min_seconds": 4.0, "max_seconds": 4.0},
        "network": {"width": 256, "hidden": 768, "blocks": 6},
    },
}

_MINI_TRANSFORMER = {"heads": 4, "width": 192, "feed_forward": 768}
_BASE_TRANSFORMER = {
    "layers": 12, "heads": 8, "width": 512, "feed_forward": 2048, "dropout": 0.1,
}  # fmt: skip
_350M_TRANSFORMER = {
    "layers": 12, "heads": 16, "width": 1024, "feed_forward": 4096, "dropout": 0.1,
}  # fmt: skip


def _audiolm(
    mini: dict[str, Any],
    *,
    decay_steps: int,
    shortest: float,
    longest: float,
    micro_batch_seconds: float,
) -> dict[str, dict[str, Any]]:
    """A stage's presets: windows as long as its chunks, and micro-batches whose tokens fit a GPU
    of 24 GB; of a second they have 25, 250 and 600. `decay_steps` are `mini`'s."""
    large = {"data": {"max_seconds": longest}, "micro_batch_seconds": micro_batch_seconds}
    return {
        "mini": {
            **_MINI,
            "batch_size": 8,
            "valid_examples": 48,
            "data": {"min_seconds": shortest, "max_seconds": longest, "speaker_power": 0.5},
            "optimiser": {
                "learning_rate": 2e-3,
                "warmup_steps": 100,
                "decay_steps": decay_steps,
                "final_ratio": 0.05,
            },
            **mini,
        },
        "base": {**_BASE, **large, "network": _BASE_TRANSFORMER},
        "350m": {**_350M, **large, "network": _350M_TRANSFORMER},
    }


# Words: few tokens, and few of them in a few hours of speech, so the dropout is higher.
_AUDIOLM_SEMANTIC = _audiolm(
    {
        "micro_batch_seconds": 120.0,
        "network": {**_MINI_TRANSFORMER, "layers": 6, "dropout": 0.1},
    },
    decay_steps=500,
    shortest=2.0,
    longest=30.0,
    micro_batch_seconds=480.0,
)
# Coarse and fine together have the tables, heads and parameters of SoundStorm's mini; a step has
# the tokens of several of its steps, so there is time for fewer.
_AUDIOLM_COARSE = _audiolm(
    {"batch_size": 4, "network": {**_MINI_TRANSFORMER, "layers": 4, "dropout": 0.05}},
    decay_steps=1_700,
    shortest=1.0,
    longest=10.0,
    micro_batch_seconds=96.0,
)
_AUDIOLM_FINE = _audiolm(
    {
        "micro_batch_seconds": 12.0,
        "network": {**_MINI_TRANSFORMER, "layers": 2, "dropout": 0.05},
    },
    decay_steps=1_400,
    shortest=1.0,
    longest=3.0,
    micro_batch_seconds=40.0,
)

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "soundstorm": _SOUNDSTORM,
    "codec": _CODEC,
    "vocoder": _VOCODER,
    "source-filter": _SOURCE_FILTER,
    "best-rq": _BEST_RQ,
    "student": _STUDENT,
    "bottleneck": _BOTTLENECK,
    "unit-to-mel": _UNIT_TO_MEL,
    "refiner": _REFINER,
    "consistency": _CONSISTENCY,
    "audiolm-semantic": _AUDIOLM_SEMANTIC,
    "audiolm-coarse": _AUDIOLM_COARSE,
    "audiolm-fine": _AUDIOLM_FINE,
}
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
