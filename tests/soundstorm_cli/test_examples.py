"""The README's commands and the examples, run as they stand."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages.shards.reader import open_rows

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with this checkout's examples, and this checkout's `soundstorm` on the path."""
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    program = tmp_path / "bin" / "soundstorm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -W ignore -m soundstorm_cli "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def run(command: list[str], folder: Path, **variables: str) -> None:
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_the_readme_does_what_it_says(workplace: Path) -> None:
    text = (REPOSITORY / "README.md").read_text()
    blocks = re.findall(r"<!-- tested -->\n```sh\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        run(["bash", "-euo", "pipefail", "-c", block], workplace)
    samples, rate = soundfile.read(workplace / "out" / "finn.wav")
    assert rate == 16_000
    assert len(samples) > rate
    assert (workplace / "out" / "eval" / "scores.json").is_file()


def test_the_readme_names_every_stage() -> None:
    text = (REPOSITORY / "README.md").read_text()
    main = (REPOSITORY / "soundstorm_cli" / "main.py").read_text()
    for name in re.findall(r'app\.command\("([^"]+)"\)', main):
        assert f"| `{name}` |" in text


def test_the_slurm_array_makes_one_whole_set(workplace, corpus, pipeline) -> None:
    for index in range(2):
        run(
            ["bash", "examples/slurm/tokenize.sbatch", str(corpus / "manifest.tsv"), "tokens"],
            workplace,
            SLURM_ARRAY_TASK_ID=str(index),
            SLURM_ARRAY_TASK_COUNT="2",
            KMEANS=str(pipeline.kmeans),
            CODEC=str(pipeline.codec),
        )
    with open_rows(workplace / "tokens" / "full") as source:
        rows = list(source.rows())
    assert sorted(row["id"] for row in rows) == [f"s{s}/u{u}" for s in range(2) for u in range(3)]
    assert all(row["acoustic"] is not None and row["semantic"] is not None for row in rows)


def test_a_task_of_the_slurm_array_that_is_run_again_does_its_own_share(workplace: Path) -> None:
    (workplace / "bin" / "soundstorm").write_text('#!/bin/sh\necho "$@" >> told\n')
    run(
        ["bash", "examples/slurm/tokenize.sbatch", "corpus", "tokens"],
        workplace,
        SLURM_ARRAY_TASK_ID="5",
        SLURM_ARRAY_TASK_COUNT="1",
        SHARES="64",
        KMEANS="kmeans",
    )
    told = (workplace / "told").read_text().splitlines()
    assert [line.rsplit(" ", 2)[1:] for line in told] == [["--shard", "5/64"]] * 2


def test_the_models_that_ship_speak(workplace: Path) -> None:
    run(
        ["make", "-f", "examples/mini/Makefile", "vocode", "OUT=out", "PROMPT=2",
         "SPEECH=examples/speech/finn/finn-00.opus"],
        workplace,
    )  # fmt: skip
    sounds = sorted(path.relative_to(workplace / "out" / "wavs") for path in
                    (workplace / "out" / "wavs").rglob("*.wav"))  # fmt: skip
    assert [str(sound) for sound in sounds] == [
        "codec/finn-00.wav", "continued/finn-00.wav", "converted/finn-00.wav",
    ]  # fmt: skip
    with (
        open_rows(workplace / "out" / "tokens") as given,
        open_rows(workplace / "out" / "continued") as made,
    ):
        before, after = next(iter(given.rows())), next(iter(made.rows()))
    assert after["prompt_frames"] == 100
    given_codes, made_codes = (np.array(list(row["acoustic"])) for row in (before, after))
    kept = (given_codes == made_codes).all(axis=1)
    assert kept[:100].all()
    assert kept[100:].mean() < 0.5


@pytest.mark.integration
def test_the_makefile_recipe_runs_and_resumes(workplace: Path) -> None:
    command = [
        "make", "-f", "examples/pipeline/Makefile", "vocode",
        "CODEC_STEPS=2", "STEPS=2", "CLUSTERS=16", "OUT=out",
    ]  # fmt: skip
    run(command, workplace)
    sounds = sorted((workplace / "out" / "wavs" / "soundstorm").rglob("*.wav"))
    assert len(sounds) == 10
    made = [sound.stat().st_mtime_ns for sound in sounds]
    run(command, workplace)
    assert [sound.stat().st_mtime_ns for sound in sounds] == made
