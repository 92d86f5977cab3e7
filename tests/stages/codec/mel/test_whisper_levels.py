"""What Whisper would read of a codec's frames."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from stages.audio.features import LogMel
from stages.codec.mel.config import MelGeometry
from stages.codec.mel.whisper_levels import WhisperLevels
from stages.errors import DataMismatch
from stages.semantic.whisper_ear import WhisperMel, floor_of


def test_levels_are_about_those_of_the_sound(make_speech: Callable[..., np.ndarray]) -> None:
    samples = torch.from_numpy(make_speech(2.0, seed=3))[None]
    geometry = MelGeometry()
    mel, frames = LogMel(geometry.log_mel)(samples, torch.tensor([32_000]))
    mel.requires_grad_(True)
    levels = WhisperLevels(geometry, 80)(mel)
    assert levels.shape == (1, 2 * int(frames), 80)
    levels.sum().backward()
    assert mel.grad is not None
    assert bool((mel.grad != 0).any(dim=-1).all())
    wanted = WhisperMel()(samples)
    ours = levels.detach().maximum(floor_of(levels.amax().detach()))
    error = (ours - wanted).abs().mean()
    assert error < 0.4 * (wanted - wanted.mean()).abs().mean()  # noise is heard differently
    # And no frame later or earlier is nearer.
    for shift in (-1, 1):
        assert (ours.roll(shift, dims=1) - wanted).abs().mean() > error


def test_louder_frames_are_as_much_louder() -> None:
    torch.manual_seed(0)
    mel, levels = torch.randn(1, 5, 100) - 4, WhisperLevels(MelGeometry(), 80)
    tenfold = mel + float(np.log(10))  # ten times the magnitude, a hundred times the power
    torch.testing.assert_close(levels(tenfold), levels(mel) + 2 / 4)


@pytest.mark.parametrize("change", [{"sample_rate": 24_000, "hop": 480}, {"hop": 200}])
def test_other_frames_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(DataMismatch, match="no multiples of them"):
        WhisperLevels(MelGeometry(**change), 80)
