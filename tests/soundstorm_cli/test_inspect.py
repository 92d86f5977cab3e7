"""`soundstorm inspect` where what it shows is odd."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.nn.model_file import save_model_file


def test_what_looks_like_markup_is_shown_as_it_is(tmp_path: Path, command) -> None:
    folder = tmp_path / "[/red]"
    save_model_file(folder, kind="kmeans", config={"encoder": "[bold]x"}, weights={})
    shown = command("inspect", folder)
    assert shown.code == 0
    assert "[bold]x" in shown.out


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nope", "does not exist"),
        ("s0", "holds neither shards nor a model"),
        ("manifest.tsv", "is no shard, whose name ends in .parquet"),
    ],
)
def test_what_can_be_inspected_is_named(name: str, sentence: str, corpus: Path, command) -> None:
    path = corpus / name
    refused = command("inspect", path)
    assert refused.code == 2
    assert refused.err == (
        f"soundstorm: {path} {sentence}: give a shard, a folder of shards, a k-means, a model, a "
        "run, or -\n"
    )
