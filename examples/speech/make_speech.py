"""Make the speech in this folder: sentences of ours, spoken by the espeak-ng synthesiser.

    python make_speech.py          (needs the espeak-ng command)

Each voice speaks its own ten sentences; the last voice is kept for validation. The rooms differ
by a little noise and a low-pass of their own, so that a recording has an acoustic condition.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import butter, resample_poly, sosfilt

FOLDER = Path(__file__).parent
RATE = 16_000

# name, espeak-ng voice, pitch (0-99), words a minute, low-pass in Hz, noise in dB below full scale
VOICES = (
    ("ada", "en-us+f2", 60, 165, 7500, -62),
    ("ben", "en-gb+m3", 35, 150, 7000, -58),
    ("cleo", "en-gb-x-rp+f5", 55, 160, 6000, -65),
    ("dan", "en-us+m7", 28, 170, 7500, -55),
    ("eve", "en-gb-scotland+f4", 70, 155, 6500, -60),
    ("finn", "en-us+m1", 45, 160, 7000, -60),
)
VALIDATION = "finn"


def speak(text: str, voice: str, pitch: int, speed: int) -> np.ndarray:
    """One sentence `[N]` at 16 kHz."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        command = ["espeak-ng", "-v", voice, "-p", str(pitch), "-s", str(speed), "-w", file.name]
        subprocess.run([*command, text], check=True)
        samples, rate = soundfile.read(file.name)
    return resample_poly(samples, RATE, rate)


def main() -> None:
    sentences = (FOLDER / "sentences.txt").read_text().splitlines()
    share = len(sentences) // len(VOICES)
    tables: dict[str, list[str]] = {"train": [], "valid": []}
    for number, (name, voice, pitch, speed, cutoff, noise) in enumerate(VOICES):
        split = "valid" if name == VALIDATION else "train"
        room = butter(4, cutoff, fs=RATE, output="sos")
        random = np.random.default_rng(number)
        for index, text in enumerate(sentences[number * share : (number + 1) * share]):
            samples = sosfilt(room, speak(text, voice, pitch, speed))
            samples = 0.5 * samples / np.abs(samples).max()
            samples += 10 ** (noise / 20) * random.standard_normal(len(samples))
            path = f"{name}/{name}-{index:02d}.opus"
            (FOLDER / name).mkdir(exist_ok=True)
            soundfile.write(FOLDER / path, samples, RATE, format="OGG", subtype="OPUS")
            tables[split].append(f"{name}-{index:02d}\t{path}\t{name}\t{text}")
    for split, lines in tables.items():
        table = "\n".join(["id\taudio\tspeaker\ttext", *lines]) + "\n"
        (FOLDER / f"{split}.tsv").write_text(table)


if __name__ == "__main__":
    main()
