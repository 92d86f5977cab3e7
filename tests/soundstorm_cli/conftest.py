"""Running the command line in this process, and small real models to run it with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from soundstorm_cli.main import run


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """`command("inspect", path)` gives the exit code and what was printed."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return call


def _run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        run([*map(str, arguments), "--quiet"])
    assert ended.value.code in (None, 0)


@pytest.fixture(scope="session")
def pipeline(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A k-means, a codec and a SoundStorm of a step each, and shards of the corpus.

    Paths by name: `kmeans`, `semantic` (shards), `codec`, `full` (shards), `model`.
    """
    folder = tmp_path_factory.mktemp("pipeline")
    paths = SimpleNamespace(
        kmeans=folder / "kmeans",
        semantic=folder / "semantic",
        codec=folder / "codec",
        full=folder / "full",
        model=folder / "model",
    )
    manifest = corpus / "manifest.tsv"
    _run("fit-kmeans", manifest, "-o", paths.kmeans, "--clusters", 16, "--workers", 0)
    _run("tokenize-semantic", manifest, "-o", paths.semantic, "-k", paths.kmeans, "--workers", 0)
    small = ["--device", "cpu", "--max-steps", 1, "--workers", 0]
    network = ["width=32", "hidden=64", "blocks=1"]
    settings = [part for value in network for part in ("--set", f"network.{value}")]
    settings += ["--set", "batch_size=2"]
    _run("train", manifest, "-o", paths.codec, "--model", "codec", *small, *settings)
    _run(
        "tokenize-acoustic", paths.semantic, "-o", paths.full, "--codec", paths.codec,
        "--workers", 0,
    )  # fmt: skip
    network = ["layers=1", "heads=2", "width=32", "feed_forward=32"]
    settings = [part for value in network for part in ("--set", f"network.{value}")]
    settings += ["--set", "batch_size=2"]
    _run("train", paths.full, "-o", paths.model, "--model", "soundstorm", *small, *settings)
    return paths
