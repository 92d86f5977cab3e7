"""Copies of recordings played at another speed, and a manifest of them: more voices to train on.

    python scripts/vary_speed.py train.tsv --speed 9/10 -o slow/        # slow/manifest.tsv

Pitch and tempo change together (Ko et al. 2015). Ids and speakers get the speed after their name.
"""

from __future__ import annotations

import argparse
import csv
from fractions import Fraction
from pathlib import Path

import soundfile
import soxr

from stages.audio.reading import read_audio
from stages.audio.sources import find_utterances

SAMPLE_RATE = 16_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", nargs="+", help="files, folders or manifests")
    parser.add_argument("--speed", type=Fraction, required=True, help="9/10 is slower and lower")
    parser.add_argument("--output", "-o", type=Path, required=True, help="the folder of the copies")
    asked = parser.parse_args()
    if not 0.5 <= asked.speed <= 2:
        parser.error(f"a speed of {asked.speed} is not between 1/2 and 2")
    asked.output.mkdir(parents=True, exist_ok=True)
    mark = f"@{float(asked.speed):g}"
    with (asked.output / "manifest.tsv").open("w", newline="") as file:
        lines = csv.writer(file, delimiter="\t")
        lines.writerow(["id", "audio", "speaker"])
        for utterance in find_utterances(asked.inputs):
            samples = read_audio(utterance["audio"], sample_rate=SAMPLE_RATE).samples[0]
            played = soxr.resample(samples, float(SAMPLE_RATE * asked.speed), SAMPLE_RATE)
            name = f"{utterance['id']}{mark}.flac"  # an id may name folders
            path = asked.output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, played.clip(-1, 1), SAMPLE_RATE)
            speaker = utterance.get("speaker")
            lines.writerow([utterance["id"] + mark, name, speaker + mark if speaker else ""])


if __name__ == "__main__":
    main()
