"""The pitch of recordings, by Harvest of the WORLD vocoder (Morise, 2017)."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from stages.audio.reading import read_audio
from stages.errors import RowFailure, StageFailure
from stages.worker_team import WorkerTeam

Pitch = NDArray[np.float32]
"""Hz, 0 where there is no voice, `[P]`; point j lies j points' seconds after the start."""


def import_world() -> ModuleType:
    """`pyworld`.

    Raises:
        StageFailure: if it is not installed.
    """
    try:
        import pyworld
    except ImportError:
        raise StageFailure(
            "telling recordings' pitch needs pyworld: pip install 'soundstorm[pitch]'"
        ) from None
    module: ModuleType = pyworld
    return module


def track_pitch(
    samples: NDArray[np.float32], sample_rate: int, *, seconds: float, lowest: float, highest: float
) -> Pitch:
    """Pitch of samples `[N]`, each `seconds` from the first on.

    Harvest tells voiced from unvoiced generously, which is what a source-filter wants, and
    StoneMask refines its pitch.
    """
    world = import_world()
    wide = samples.astype(np.float64)
    rough, times = world.harvest(
        wide, sample_rate, f0_floor=lowest, f0_ceil=highest, frame_period=1e3 * seconds
    )
    fine: Pitch = world.stonemask(wide, rough, times, sample_rate).astype(np.float32)
    return fine


def tracking_team(
    sample_rate: int, *, seconds: float, lowest: float, highest: float
) -> WorkerTeam[str, Pitch | RowFailure]:
    """Processes that read the files of paths and tell their pitch."""
    return WorkerTeam(_tracker, sample_rate, seconds, lowest, highest, does="tracks pitch")


def _tracker(
    sample_rate: int, seconds: float, lowest: float, highest: float
) -> Callable[[str], Pitch | RowFailure]:
    """What a worker does with a path."""

    def track(path: str) -> Pitch | RowFailure:
        try:
            wave = read_audio(path, sample_rate=sample_rate)
        except RowFailure as failure:
            return failure
        return track_pitch(
            wave.samples[0], sample_rate, seconds=seconds, lowest=lowest, highest=highest
        )

    return track
