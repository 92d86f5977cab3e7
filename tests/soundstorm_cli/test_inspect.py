"""`soundstorm inspect` where what it shows is odd."""

from __future__ import annotations

from pathlib import Path

from stages.nn.model_file import save_model_file


def test_what_looks_like_markup_is_shown_as_it_is(tmp_path: Path, command) -> None:
    folder = tmp_path / "[/red]"
    save_model_file(folder, kind="kmeans", config={"encoder": "[bold]x"}, weights={})
    shown = command("inspect", folder)
    assert shown.code == 0
    assert "[bold]x" in shown.out
