"""The script that makes copies of recordings in other voices."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from tests.scripts import run_script

run = partial(run_script, "vary_voice.py")


def vary(
    recording: npt.NDArray[np.float64], folder: Path, *options: str
) -> tuple[dict[str, str], Path]:
    """A manifest of one recording, `x/a` by ann, copied; the copy's row and file."""
    soundfile.write(folder / "a.wav", recording, 16_000)
    manifest = folder / "in.tsv"
    manifest.write_text('id\taudio\tspeaker\ttext\nx/a\ta.wav\tann\t"yes"\n')
    output = folder / "copies"
    done = run(manifest, "-o", output, *options)
    assert done.returncode == 0, done.stderr
    with (output / "manifest.tsv").open() as file:
        (row,) = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    return row, output / row["audio"]


def test_copies_are_longer_and_lower(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    row, copy = vary(tone, tmp_path, "--speed", "8/10")
    assert (row["id"], row["speaker"], row["text"]) == ("x/a@0.8", "ann@0.8", '"yes"')
    samples, rate = soundfile.read(copy)
    assert (len(samples), rate) == (20_000, 16_000)
    loudest = np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples)
    assert abs(loudest - 800) < 2


def test_an_equaliser_changes_how_loud_bands_are_and_not_when(tmp_path: Path) -> None:
    click = np.zeros(16_000)
    click[8_000] = 0.1
    row, copy = vary(click, tmp_path, "--equalise", "4")
    assert (row["id"], row["speaker"]) == ("x/a@1e0", "ann@1e0")
    samples, _ = soundfile.read(copy)
    gains = 20 * np.log10(np.abs(np.fft.rfft(samples)) / 0.1)
    assert 1.5 < gains.std() < 8
    assert np.abs(np.diff(gains)).max() < 0.2  # smooth: neighbours are 1 Hz apart
    assert np.abs(samples).argmax() == 8_000
    _, again = vary(click, tmp_path, "--equalise", "4")
    assert np.array_equal(soundfile.read(again)[0], samples)
    row, other = vary(click, tmp_path, "--equalise", "4", "--seed", "1")
    assert row["id"] == "x/a@1e1"
    assert not np.array_equal(soundfile.read(other)[0], samples)


def test_what_cannot_be_copied_is_told(tmp_path: Path) -> None:
    nowhere = run(tmp_path / "nowhere", "-o", tmp_path / "copies")
    assert nowhere.returncode == 2
    assert nowhere.stderr.startswith("vary-voice: ")
    assert len(nowhere.stderr.splitlines()) == 1
    assert not (tmp_path / "copies").exists()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "in" / "b.wav", np.zeros(1600), 16_000)
    done = run(tmp_path / "in", "-o", tmp_path / "copies")
    assert done.returncode == 1
    assert done.stderr.startswith("vary-voice: a: ")
    with (tmp_path / "copies" / "manifest.tsv").open() as file:
        assert [row["id"] for row in csv.DictReader(file, delimiter="\t")] == ["b@1"]
