"""The script that writes down what is said in recordings without a text."""

from __future__ import annotations

import csv
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.scripts import run_script

run = partial(run_script, "transcribe.py")


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with manifest.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    """A manifest of one recording whose text is known."""
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16_000)
    manifest = tmp_path / "in.tsv"
    manifest.write_text("id\taudio\tspeaker\ttext\nx/a\ta.wav\tann\tyes\n")
    return manifest


def test_texts_that_are_there_stay(spoken: Path, tmp_path: Path) -> None:
    nobody = tmp_path / "nobody"
    nobody.mkdir()
    (nobody / "model.bin").write_bytes(b"hears nothing")
    (tmp_path / "c.wav").write_bytes(b"no sound")
    with spoken.open("a") as file:
        file.write("x/c\tc.wav\t\t\nx/d\t\t\t\n")
    told = tmp_path / "new" / "told.tsv"
    done = run(spoken, "--judge", f"whisper:{nobody}", "-o", told)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("transcribe: x/c: ")
    assert second == "transcribe: x/d: the row names no audio file"
    assert rows_of(told) == [
        {"id": "x/a", "audio": str(tmp_path / "a.wav"), "speaker": "ann", "text": "yes"}
    ]


def test_what_is_heard_becomes_the_text(shared: Path, whisper_folder: Path, tmp_path: Path) -> None:
    with (shared / "data" / "valid.tsv").open() as file:
        row = next(row for row in csv.DictReader(file, delimiter="\t") if row["text"])
    audio = shared / "data" / row["audio"]
    manifest, told = tmp_path / "in.tsv", tmp_path / "told.tsv"
    manifest.write_text(f"id\taudio\tspeaker\ttext\n1\t{audio}\t\t\n")
    done = run(manifest, "--judge", f"whisper:{whisper_folder}", "-o", told)
    assert done.returncode == 0, done.stderr
    (found,) = rows_of(told)
    heard, said = (set(re.findall(r"\w+", text.lower())) for text in (found["text"], row["text"]))
    assert len(heard & said) > 0.7 * len(said)


def test_what_it_cannot_use_is_told(spoken: Path, tmp_path: Path) -> None:
    told = tmp_path / "told.tsv"
    nobody = run(spoken, "--judge", f"whisper:{tmp_path}", "-o", told)
    assert nobody.returncode == 2
    assert nobody.stderr.startswith("transcribe: ")
    assert len(nobody.stderr.splitlines()) == 1
    assert not told.exists()
    no_table = run(spoken, "--judge", "whisper:base", "-o", tmp_path / "told.csv")
    assert no_table.returncode == 2
    assert "must end in .tsv" in no_table.stderr
    nowhere = run(tmp_path / "nowhere", "--judge", "whisper:base", "-o", told)
    assert nowhere.returncode == 2
    assert not told.exists()
