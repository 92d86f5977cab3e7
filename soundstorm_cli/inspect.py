"""`soundstorm inspect`: what a shard, a folder of shards or a model is, and where it came from."""

from __future__ import annotations

import json
from glob import has_magic
from pathlib import Path
from typing import Annotated, Any

import typer

from soundstorm_cli.common import JsonOption
from stages.errors import DataMismatch

TAKES = "a shard, a folder of shards, a k-means, a model, a run, or -"


def inspect(
    path: Annotated[str, typer.Argument(help=f"{TAKES.capitalize()}.")],
    as_json: JsonOption = False,
) -> None:
    """Say what a shard, a set of shards, a k-means or a model is, and where it came from.

    Counts rows, hours, tokens and the codes in use, by level.
    """
    from stages.nn.model_file import CONFIG_NAME

    if path != "-" and (Path(path) / CONFIG_NAME).exists():
        description = _describe_model(Path(path))
    else:
        _require_something(path)
        description = _describe_rows(path)
    if as_json:
        print(json.dumps(description, ensure_ascii=False))
        return
    _print_description(description)


def _require_something(path: str) -> None:
    """Refuse what is no model and can be no shards, since readers of shards name only those."""
    from stages.shards.reader import is_token_set

    if path != "-" and not Path(path).exists() and not has_magic(path):
        raise DataMismatch(f"{path} does not exist: give {TAKES}")
    if Path(path).is_dir() and not is_token_set(path):
        raise DataMismatch(f"{path} holds neither shards nor a model: give {TAKES}")
    if Path(path).is_file() and not is_token_set(path):
        raise DataMismatch(f"{path} is no shard, whose name ends in .parquet: give {TAKES}")


def _describe_model(folder: Path) -> dict[str, Any]:
    from stages.nn.model_file import load_model_file

    model = load_model_file(folder)
    return {
        "what": f"{model.kind} model",
        "path": str(folder),
        "fingerprint": model.fingerprint,
        "parameters": sum(tensor.numel() for tensor in model.weights.values()),
        "bytes": sum(tensor.numel() * tensor.element_size() for tensor in model.weights.values()),
        "config": model.config,
        "tokens": model.tokens,
        "extra": model.extra,
    }


def _describe_rows(path: str) -> dict[str, Any]:
    from stages.shards.reader import open_rows
    from stages.shards.summary import summarise

    with open_rows(path) as source:
        return summarise(source)


def _print_description(description: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False)  # a path may hold what looks like it
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for key, value in description.items():
        if key in ("stages", "codes_in_use", "config", "tokens", "extra"):
            continue
        table.add_row(key.replace("_", " "), _show(value))
    for key in ("config", "tokens", "extra"):
        for name, value in sorted((description.get(key) or {}).items()):
            table.add_row(f"{key}.{name}", _show(value))
    for kind, used in (description.get("codes_in_use") or {}).items():
        table.add_row(f"{kind} codes in use", " ".join(map(str, used)))
    for record in description.get("stages") or ():
        settings = " ".join(f"{key}={_show(value)}" for key, value in record["settings"].items())
        table.add_row(f"from {record['stage']} {record['version']}", settings)
        for name, digest in record["models"].items():
            table.add_row("  with", f"{name} sha256:{digest[:16]}")
    console.print(table)


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
