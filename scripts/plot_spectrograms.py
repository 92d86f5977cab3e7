"""Draw the spectrograms of the same utterance from several systems, one above the other.

python scripts/plot_spectrograms.py OUT.png recording=a.opus codec=b.wav soundstorm=c.wav
"""

from __future__ import annotations

import sys

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from stages.audio.reading import read_audio

RATE = 16_000
WINDOW, HOP = 512, 128


def main(target: str, systems: list[str]) -> None:
    """Write a picture with a row for each `name=path`, all on one scale of 80 dB."""
    named = [system.split("=", 1) for system in systems]
    sounds = [read_audio(path, sample_rate=RATE).samples[0] for _, path in named]
    seconds = max(map(len, sounds)) / RATE
    figure, axes = plt.subplots(
        len(named), 1, figsize=(9, 1.7 * len(named) + 0.5), sharex=True, squeeze=False
    )
    for (name, _), samples, axis in zip(named, sounds, axes[:, 0], strict=True):
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


if __name__ == "__main__":
    if len(sys.argv) < 3 or not all("=" in system for system in sys.argv[2:]):
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
