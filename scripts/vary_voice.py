"""Copies of recordings in other voices, and a manifest of them: more to train on.

    python scripts/vary_voice.py train.tsv --speed 9/10 --equalise 4 -o slow/    # slow/manifest.tsv

At another speed pitch, formants and tempo change together (Ko et al. 2015). Equalised, each
recording has a microphone and a mouth of its own. Ids and speakers get the speed after their name
and, equalised, the seed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from soundstorm_cli.common import run_script
from stages.audio.manifests import Line, write_manifest
from stages.audio.reading import read_audio
from stages.audio.sources import find_utterances
from stages.training.seeds import numpy_generator

SAMPLE_RATE = 16_000
POINTS = 10
"""Of an equaliser's curve, evenly on the mel scale."""


def equalise(
    samples: npt.NDArray[np.float32], decibels: float, generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Filter `[N]` samples by a random smooth curve, without phase.

    Args:
        samples: at `SAMPLE_RATE`.
        decibels: the deviation of each of the curve's points; the whole gets louder or softer
            with them, too.
        generator: draws the curve.
    """
    padded = np.pad(samples, (0, SAMPLE_RATE // 10))  # what rings goes there, not to the start
    spectrum = np.fft.rfft(padded)
    mel = np.log1p(np.fft.rfftfreq(len(padded), 1 / SAMPLE_RATE) / 700)
    gains = generator.normal(0, decibels, POINTS)
    curve = np.interp(mel, np.linspace(0, mel[-1], POINTS), gains)
    filtered = np.fft.irfft(spectrum * 10 ** (curve / 20), len(padded))[: len(samples)]
    return np.asarray(filtered / max(1.0, np.abs(filtered).max(initial=0.0)), np.float32)


def write_copy(utterance: Mapping[str, Any], asked: argparse.Namespace) -> Line:
    """Write one copy; gives its line of the manifest."""
    speed = f"@{float(asked.speed):g}"
    mark = f"{speed}e{asked.seed}" if asked.equalise else speed
    samples = read_audio(utterance["audio"], sample_rate=SAMPLE_RATE).samples[0]
    copy = soxr.resample(samples, float(SAMPLE_RATE * asked.speed), SAMPLE_RATE)
    if asked.equalise:
        generator = numpy_generator(asked.seed, speed, utterance["id"])
        copy = equalise(copy, asked.equalise, generator)
    name = f"{utterance['id']}{mark}.flac"  # an id may name folders
    path = asked.output / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, copy.clip(-1, 1), SAMPLE_RATE)
    speaker = utterance["speaker"]
    return utterance["id"] + mark, name, speaker and speaker + mark, utterance["text"]


def main() -> int:
    """Read the command line and write the copies; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", nargs="+", help="files, folders or manifests")
    parser.add_argument("--speed", type=Fraction, default=Fraction(1), help="9/10 is slower, lower")
    parser.add_argument(
        "--equalise", type=float, default=0.0, metavar="DB", help="deviation of each band's gain"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the gains")
    parser.add_argument("--output", "-o", type=Path, required=True, help="the folder of the copies")
    asked = parser.parse_args()
    if not 0.5 <= asked.speed <= 2:
        parser.error(f"a speed of {asked.speed} is not between 1/2 and 2")
    if not 0 <= asked.equalise <= 20:
        parser.error(f"a deviation of {asked.equalise} dB is not between 0 and 20")
    return run_script(
        "vary-voice",
        lambda: write_manifest(
            asked.output / "manifest.tsv",
            find_utterances(asked.inputs),
            lambda utterance: write_copy(utterance, asked),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
