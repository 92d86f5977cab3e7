"""Fixtures every test may use: real speech where there is some, made-up speech everywhere."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import settings
from numpy.typing import NDArray

settings.register_profile("unhurried", deadline=None)  # a busy machine is no fault
settings.load_profile("unhurried")

MakeSpeech = Callable[..., NDArray[np.float32]]

# First two formants of five vowels in Hz (Peterson & Barney 1952, men).
VOWELS = ((730, 1090), (270, 2290), (300, 870), (530, 1840), (570, 840))


def _resonate(source: NDArray[np.float64], frequency: float, rate: int) -> NDArray[np.float64]:
    """Filter through one second-order resonance of 80 Hz bandwidth."""
    from scipy.signal import lfilter

    radius = np.exp(-np.pi * 80 / rate)
    poles = [1, -2 * radius * np.cos(2 * np.pi * frequency / rate), radius**2]
    filtered: NDArray[np.float64] = lfilter([1 - radius], poles, source)
    return filtered


def _make_speech(
    seconds: float = 1.0, *, seed: int = 0, sample_rate: int = 16_000
) -> NDArray[np.float32]:
    """Made-up speech `[N]`: vowels of a gliding pitch, hisses and pauses of 60 to 200 ms each."""
    random = np.random.default_rng(seed)
    total = round(seconds * sample_rate)
    pitch = random.uniform(90, 220)
    pieces: list[NDArray[np.float64]] = []
    made = 0
    while made < total:
        count = int(random.uniform(0.06, 0.2) * sample_rate)
        choice = random.integers(0, 8)
        hiss = random.standard_normal(count)
        if choice < 5:
            phase = np.cumsum(pitch * np.linspace(1.1, 0.9, count) / sample_rate)
            pulses = np.diff(np.floor(phase), prepend=0.0) + 0.01 * hiss
            first, second = VOWELS[choice]
            piece = _resonate(pulses, first, sample_rate) + _resonate(pulses, second, sample_rate)
        elif choice < 7:
            piece = 0.1 * np.diff(hiss, prepend=0.0)
        else:
            piece = 0.001 * hiss
        pieces.append(piece * np.hanning(count) ** 0.25)
        made += count
    speech = np.concatenate(pieces)[:total]
    return (0.5 * speech / max(1e-6, np.abs(speech).max())).astype(np.float32)


@pytest.fixture(scope="session")
def make_speech() -> MakeSpeech:
    """`make_speech(seconds, seed=0, sample_rate=16_000)` gives `[N]` float32, always the same."""
    return _make_speech


@pytest.fixture(scope="session")
def speech_wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of made-up speech, 16 kHz mono WAV. Do not change the file."""
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, _make_speech(2.0, seed=1), 16_000)
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six short utterances of two speakers with `manifest.tsv`. Do not change it.

    Lengths differ (0.8 to 1.8 s), and so do formats, rates and channels.
    """
    folder = tmp_path_factory.mktemp("corpus")
    lines = ["id\taudio\tspeaker\ttext"]
    formats = (("wav", 16_000, 1), ("flac", 24_000, 1), ("ogg", 48_000, 2))
    for speaker in range(2):
        for number, (suffix, rate, channels) in enumerate(formats):
            name = f"s{speaker}/u{number}"
            samples = _make_speech(
                0.8 + 0.2 * (3 * speaker + number), seed=10 * speaker + number, sample_rate=rate
            )
            path = folder / f"{name}.{suffix}"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, np.repeat(samples[:, None], channels, axis=1), rate)
            lines.append(f"{name}\t{name}.{suffix}\ts{speaker}\tmade up {number}")
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real speech and models beside the checkout, or named by SOUNDSTORM_SHARED."""
    sibling = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("SOUNDSTORM_SHARED", sibling))
    if not (folder / "data" / "train.tsv").is_file():
        pytest.skip(f"no real speech in {folder}: set SOUNDSTORM_SHARED to the folder that has it")
    return folder


@pytest.fixture
def new_processes() -> Callable[[], list[BaseProcess]]:
    """Child processes that a test has started: others may leave some that wait for more work."""
    before = set(multiprocessing.active_children())
    return lambda: [child for child in multiprocessing.active_children() if child not in before]


@pytest.fixture(scope="session")
def whisper_folder() -> Path:
    """A real Whisper, which `make whisper` fetches; SOUNDSTORM_WHISPER names another folder."""
    default = Path(__file__).resolve().parents[1] / "assets-cache" / "whisper-tiny"
    folder = Path(os.environ.get("SOUNDSTORM_WHISPER", default))
    if not (folder / "model.bin").is_file():
        pytest.skip(f"no Whisper in {folder}: run make whisper, or set SOUNDSTORM_WHISPER")
    return folder
