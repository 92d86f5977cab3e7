"""Draw the spectrograms of the same utterance from several systems, one above the other.

python scripts/plot_spectrograms.py OUT.png recording=a.opus codec=b.wav soundstorm=c.wav
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from soundstorm_cli.common import say
from stages.audio.reading import read_audio
from stages.errors import SoundStormError

RATE = 16_000
WINDOW, HOP = 512, 128


def draw(target: Path, systems: list[tuple[str, str]]) -> None:
    """Write a picture with a row for each name and path, all on one scale of 80 dB."""
    sounds = [read_audio(path, sample_rate=RATE).samples[0] for _, path in systems]
    seconds = max(map(len, sounds)) / RATE
    figure, axes = plt.subplots(
        len(systems), 1, figsize=(9, 1.7 * len(systems) + 0.5), sharex=True, squeeze=False
    )
    for (name, _), samples, axis in zip(systems, sounds, axes[:, 0], strict=True):
        axis.specgram(
            samples + 1e-7 * np.random.default_rng(0).standard_normal(len(samples)),
            NFFT=WINDOW, Fs=RATE / 1000, noverlap=WINDOW - HOP, cmap="magma", vmin=-100, vmax=-20,
            xextent=(0, len(samples) / RATE),
        )  # fmt: skip
        axis.set_ylabel("kHz")
        axis.set_title(name, loc="left", fontsize=10)
        axis.set_xlim(0, seconds)
    axes[-1, 0].set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(target, dpi=80)


def named(system: str) -> tuple[str, str]:
    """The two parts of `name=path`."""
    name, equals, path = system.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{system} must be a name and a file: recording=a.opus")
    return name, path


def main() -> int:
    """Read the command line and write the picture; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", metavar="OUT.png", type=Path, help="the picture to write")
    parser.add_argument(
        "systems", metavar="NAME=FILE", nargs="+", type=named, help="a system's name and its sound"
    )
    asked = parser.parse_args()
    try:
        draw(asked.target, asked.systems)
    except SoundStormError as error:
        say(f"plot_spectrograms: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
