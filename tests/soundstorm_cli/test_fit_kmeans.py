"""`soundstorm fit-kmeans` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from soundstorm_cli.main import run
from stages.semantic.kmeans import RefinerChoice, load_kmeans
from stages.shards.reader import open_rows


def fit(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        run(["fit-kmeans", *map(str, arguments), "--workers", "0"])
    return int(ended.value.code or 0)


def test_it_writes_a_model_that_says_what_it_is(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(corpus, "-o", tmp_path / "km", "--clusters", 8, "--seed", 7, "--json") == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (report["encoder"], report["clusters"], report["seed"]) == ("logmel", 8, 7)
    assert report["utterances"] == 6
    assert "6 utterances, inertia" in err
    config = json.loads((tmp_path / "km/config.json").read_text())
    assert config["kind"] == "kmeans"
    assert config["config"]["frame_rate"] == "50"
    assert sorted(path.name for path in (tmp_path / "km").iterdir()) == [
        "config.json", "model.safetensors",
    ]  # fmt: skip


def test_frames_beyond_memory_leave_no_file(corpus: Path, tmp_path: Path) -> None:
    # 0.00005 GiB hold about 110 of the corpus's 390 frames.
    assert fit(corpus, "-o", tmp_path / "km", "--clusters", 8, "--memory", 0.00005) == 0
    assert not list((tmp_path / "km").glob("*.tmp"))
    report = json.loads((tmp_path / "km/config.json").read_text())["extra"]
    assert report["sampled_frames"] < report["frames"]
    assert report["passes"] == 2


def test_a_kmeans_is_not_replaced_unasked(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(corpus, "-o", tmp_path / "km", "--clusters", 4) == 0
    assert fit(corpus, "-o", tmp_path / "km", "--clusters", 8) == 2
    assert "already holds a model" in capsys.readouterr().err
    assert fit(corpus, "-o", tmp_path / "km", "--clusters", 8, "--force") == 0


def test_a_bad_file_is_reported_and_the_rest_is_used(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.wav").touch()
    arguments = [corpus, tmp_path / "empty.wav", "-o", tmp_path / "km", "--clusters", 4]
    assert fit(*arguments) == 1
    assert "empty: " in capsys.readouterr().err
    assert (tmp_path / "km/config.json").exists()
    failure = json.loads((tmp_path / "km/failures.jsonl").read_text())
    assert failure["id"] == "empty"
    assert fit(*arguments, "--force", "--keep-going") == 0


def test_recordings_that_cannot_be_read_are_named_where_the_rest_is_too_little(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.tsv").write_text("id\taudio\na\tgone-1.wav\nb\tgone-2.wav\n")
    assert fit(tmp_path / "list.tsv", "-o", tmp_path / "km", "--clusters", 4) == 2
    said = capsys.readouterr().err
    assert "0 frames cannot make 4 clusters (2 of 2 utterances could not be read" in said
    assert "gone-" in said


def test_refined_frames_are_clustered_and_refined_again(corpus: Path, tmp_path: Path) -> None:
    """A k-means knows its refiner, so tokens need not be told of it."""
    spoken = ["--encoder", "mini", "--clusters", 8]
    assert fit(corpus, "-o", tmp_path / "plain", *spoken) == 0
    assert fit(corpus, "-o", tmp_path / "refined", *spoken, "--refiner", "mini") == 0
    plain, refined = (load_kmeans(tmp_path / name) for name in ("plain", "refined"))
    assert plain.refiner is None
    assert refined.refiner == RefinerChoice(spec="mini", unit_to_mel="mini")
    assert not np.allclose(plain.centroids, refined.centroids)
    for name, refiner in (("plain", False), ("refined", True)):
        with pytest.raises(SystemExit) as ended:
            run(["tokenize-semantic", str(corpus), "-o", str(tmp_path / f"{name}-s"),
                 "-k", str(tmp_path / name), "--workers", "0"])  # fmt: skip
        assert not ended.value.code
        with open_rows(tmp_path / f"{name}-s") as source:
            assert ("refiner" in source.provenance.stages[-1].models) == refiner


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--clusters", "100000"], "100000 clusters do not fit uint16"),
        (["--clusters", "5000"], "frames cannot make 5000 clusters"),
        (["--encoder", "nonsense"], "there is no semantic encoder nonsense"),
        (["--encoder", "logmel", "--layer", "3"], "no layers"),
        (["--refiner", "mini"], "refines the frames of another encoder"),
        (["--unit-to-mel", "mini"], "speaks to a refiner: add --refiner FOLDER"),
        (["--rate", "fast"], "--rate fast is no number"),
        (["--rate", "30"], "cannot be brought to 30"),
        (["--rate", "25", "--reduce", "median"], "--reduce median is neither"),
        (["--device", "warp"], "there is no device warp"),
        (["--device", "meta"], "there is no device meta"),
        (["--device", "hpu"], "there is no device hpu"),
        (["--memory", "0.0000001"], "allow more memory"),
        (["--memory", "nan"], "--memory nan is no amount"),
        (["-o", "{corpus}/manifest.tsv/km"], "cannot be made (Not a directory)"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_2(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    sentence: str,
) -> None:
    options = [option.format(corpus=corpus) for option in options]
    assert fit(corpus, "-o", tmp_path / "km", *options) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1
    assert not (tmp_path / "km/config.json").exists()
