"""`soundstorm report`: one page of what was evaluated, to read, to listen to, and to pass on."""

from __future__ import annotations

import json
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from soundstorm_cli.common import (
    DeviceOption,
    JsonOption,
    QuietOption,
    finish,
    open_inputs,
    pick_device,
    say,
)
from stages.errors import DataMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stages.evaluation.systems import System
    from stages.report.evaluations import Evaluation, Judged
    from stages.report.samples import Sample

NAME = "report"


def report(
    evaluations: Annotated[
        list[str],
        typer.Argument(metavar="EVALUATION", help="Folders that soundstorm eval -o wrote."),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o",
            help="A folder for report.html, which needs no other file, for report.md with its "
            "figures and samples, and for report.json.",
        ),
    ],
    ablation: Annotated[
        str | None,
        typer.Option("--ablation", metavar="FOLDER", help="That soundstorm ablate wrote."),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option("--runtime", metavar="FILE", help="runtime.json of the runtime benchmark."),
    ] = None,
    mos: Annotated[
        str | None,
        typer.Option("--mos", metavar="FILE", help="mos.json of soundstorm eval mos."),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            "--samples", min=0,
            help="Utterances to listen to, spread from the shortest to the longest.",
        ),
    ] = 4,
    title: Annotated[str, typer.Option("--title", help="Of the page.")] = "SoundStorm evaluation",
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Make one page of scores, figures, sound, and how it was all made.

    Table 1 and Figures 2 to 4 of the paper from one's own numbers, players with spectrograms, and
    what the numbers say of the paper's claims.
    """
    _require_packages()
    from stages.ablation.results import ABLATION_JSON
    from stages.report.evaluations import read_evaluations
    from stages.report.page import HTML, compose, write_report

    read = read_evaluations(evaluations)
    ablated = str(Path(ablation) / ABLATION_JSON) if ablation else None
    others = {
        "ablation": _read_json(ablated, "rows", "a folder of soundstorm ablate"),
        "runtime": _read_json(runtime, "cells", "runtime.json of the runtime benchmark"),
        "opinions": _read_json(mos, "krippendorff_alpha", "mos.json of soundstorm eval mos"),
    }
    heard, notes = _samples(read, samples, pick_device(device))
    composed = compose(read, title=title, samples=heard, notes=notes, **others)
    folder = Path(output)
    write_report(composed, folder)
    for note in notes:
        say(f"{NAME}: {note}", quiet=quiet)
    say(f"{NAME}: {folder / HTML}", quiet=quiet)
    result = {"output": output, "systems": sum(len(one.systems) for one in read),
              "samples": [sample.id for sample in heard], "notes": list(notes)}  # fmt: skip
    finish(result, failed=0, keep_going=False, as_json=as_json)


def _require_packages() -> None:
    for package in ("jinja2", "matplotlib", "PIL"):
        if find_spec(package) is None:
            raise DataMismatch(
                f"a report needs {package}, which is not installed: pip install 'soundstorm[eval]'"
            )


def _read_json(path: str | None, key: str, what: str) -> dict[str, Any] | None:
    """A JSON object that must have a key."""
    if path is None:
        return None
    try:
        value: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataMismatch(f"{path} cannot be read ({error.strerror}): give {what}") from None
    except ValueError:
        raise DataMismatch(f"{path} is no JSON: give {what}") from None
    if not isinstance(value, dict) or key not in value:
        raise DataMismatch(f"{path} has no `{key}`: give {what}")
    return value


def _samples(
    evaluations: Sequence[Evaluation], count: int, device: str
) -> tuple[list[Sample], list[str]]:
    """Utterances to listen to, and why others are missing."""
    from stages.report.samples import choose, hear

    if count == 0:
        return [], ["Sound was not asked for (--samples 0)."]
    ids = choose(evaluations, count)
    if not ids:
        return [], ["No utterance is in all evaluations: there is none to compare by ear."]
    systems: dict[str, System] = {}
    notes = []
    for evaluation in evaluations:
        opened: dict[tuple[str, ...], dict[str, System]] = {}
        for judged in evaluation.systems:
            try:
                systems[judged.label] = _open(judged, evaluation, device, opened)
            except DataMismatch as error:
                notes.append(f"{judged.label} cannot be heard: {error}.")
    heard, missing = hear(ids, systems, evaluations)
    return heard, [*notes, *missing]


def _open(
    judged: Judged,
    evaluation: Evaluation,
    device: str,
    opened: dict[tuple[str, ...], dict[str, System]],
) -> System:
    """A system's sound, from where it was when it was judged, or beside its scores."""
    from stages.evaluation.systems import open_system, rows_by_id, systems_of_input

    paths = [_find(place, evaluation.folder) for place in judged.source.get("paths", ())]
    if not paths:
        raise DataMismatch("its scores do not say where it is")
    speakers: dict[str, Any] = {
        "codec": judged.source.get("codec"),
        "vocoder": judged.source.get("vocoder"),
        "device": device,
    }
    if judged.name in evaluation.generated:
        return open_system(judged.name, paths[0], **speakers)
    if tuple(paths) not in opened:  # recordings and their codec come from one input
        with open_inputs(paths) as source:
            _, found = systems_of_input(source, rows_by_id(source), **speakers)
        opened[tuple(paths)] = {system.name: system for system in found}
    system = opened[tuple(paths)].get(judged.name)
    if system is None:
        raise DataMismatch(f"{' '.join(paths)} no longer has it")
    return system


def _find(place: dict[str, str], folder: Path) -> str:
    path = place["path"]
    if path == "-":
        raise DataMismatch("it came by standard input")
    beside = folder / place.get("relative", path)
    for candidate in (Path(path), beside):
        if candidate.exists() or glob(str(candidate), recursive=True):  # noqa: PTH207
            return str(candidate)
    raise DataMismatch(f"{path} is no longer there")
