"""The script that makes copies of recordings at other speeds."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

REPOSITORY = Path(__file__).parents[2]


def test_copies_are_longer_and_lower(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    soundfile.write(tmp_path / "a.wav", tone, 16_000)
    manifest = tmp_path / "in.tsv"
    manifest.write_text("id\taudio\tspeaker\nx/a\ta.wav\tann\n")
    subprocess.run(
        [
            sys.executable, REPOSITORY / "scripts" / "vary_speed.py", manifest,
            "--speed", "8/10", "-o", tmp_path / "slow",
        ],
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    with (tmp_path / "slow" / "manifest.tsv").open() as file:
        (row,) = csv.DictReader(file, delimiter="\t")
    assert (row["id"], row["speaker"]) == ("x/a@0.8", "ann@0.8")
    samples, rate = soundfile.read(tmp_path / "slow" / row["audio"])
    assert (len(samples), rate) == (20_000, 16_000)
    loudest = np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples)
    assert abs(loudest - 800) < 2
