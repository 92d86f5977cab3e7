"""The picture of several systems' spectrograms, and how its script takes what it is given."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.scripts import run_script

run = partial(run_script, "plot_spectrograms.py")


def test_a_row_for_each_system(speech_wav: Path, tmp_path: Path) -> None:
    picture = tmp_path / "two.png"
    done = run(picture, f"recording={speech_wav}", f"codec={speech_wav}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_help_and_wrong_usage(tmp_path: Path) -> None:
    asked = run("--help")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert "NAME=FILE" in asked.stdout
    refused = run(tmp_path / "out.png", "codec.wav")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "codec.wav must be a name and a file: recording=a.opus" in refused.stderr
    nowhere = run(tmp_path / "out.png", f"codec={tmp_path}/none.wav")
    assert nowhere.returncode == 1
    assert nowhere.stderr == f"plot_spectrograms: {tmp_path}/none.wav does not exist\n"
