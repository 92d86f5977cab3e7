"""Every random choice of a run, as a function of the run's seed and the place of the choice.

No generator lives from one step to the next, so nothing random needs to be saved: step k draws
the same in a run that was stopped before it, and with any number of workers.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *path: int | str) -> int:
    """A seed in `[0, 2^63)` for one choice, such as `("mask", step, 3)`, of a run."""
    text = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *path: int | str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, *path))
