"""The report: one HTML page that needs nothing else, the same in Markdown, and in JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from stages.evaluation.measure import Metric
from stages.evaluation.report import arrow
from stages.evaluation.statistics import Estimate
from stages.report.claims import SMALLEST_GAIN, Claim, claims, difference_text
from stages.report.columns import CONSISTENCY, columns, heading
from stages.report.evaluations import Evaluation
from stages.report.figures import figure_2, figure_3, figure_4
from stages.report.origins import origins, settings_text
from stages.report.samples import Sample
from stages.report.svg import INK, PALETTE, inline_svg, save_svg
from stages.report.tables import Table, table_1
from stages.shards.writer import atomic_path

HTML, MARKDOWN, JSON = "report.html", "report.md", "report.json"
FIGURES, SAMPLES = "figures", "samples"
OWN_SAMPLE = re.compile(r"\d+-\d+\.(flac|png)")
UNMEASURED = "None of the paper's metrics was measured: soundstorm eval takes them with --measures."
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure, or why there is none."""

    name: str
    """`figure-2`, and its file's name."""

    title: str

    caption: str

    figure: Figure | None

    needs: str
    """What input would give it."""

    @property
    def file(self) -> str:
        """From the report's folder."""
        return f"{FIGURES}/{self.name}.svg"

    def inline(self) -> Markup:
        """The figure as a part of a page."""
        assert self.figure is not None
        return Markup(inline_svg(self.figure, self.name, f"{self.title}. {self.caption}"))


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a report says."""

    title: str
    evaluations: Sequence[Evaluation]
    table: Table
    pictures: Sequence[Picture]
    claims: Sequence[Claim]
    ablation: Mapping[str, Any] | None
    opinions: Mapping[str, Any] | None
    """`mos.json` of `eval mos`."""
    runtime: Mapping[str, Any] | None
    samples: Sequence[Sample]
    notes: Sequence[str]
    """Why sound is missing, a line each."""
    made: Mapping[str, Any]


def compose(
    evaluations: Sequence[Evaluation],
    *,
    title: str,
    ablation: Mapping[str, Any] | None,
    runtime: Mapping[str, Any] | None,
    opinions: Mapping[str, Any] | None,
    samples: Sequence[Sample],
    notes: Sequence[str],
) -> Report:
    """Put a report together.

    Args:
        evaluations: read back.
        title: of the page.
        ablation: `ablation.json`, if there is one.
        runtime: of the runtime benchmark, if it was run.
        opinions: `mos.json`, if there are ratings.
        samples: to listen to.
        notes: why other sound is missing.
    """
    return Report(
        title=title,
        evaluations=evaluations,
        table=table_1(evaluations),
        pictures=_pictures(evaluations, ablation, runtime),
        claims=claims(evaluations, ablation),
        ablation=ablation,
        opinions=opinions,
        runtime=runtime,
        samples=samples,
        notes=notes,
        made=origins(evaluations),
    )


def write_report(report: Report, folder: Path) -> None:
    """Write `report.html`, `report.md` with `figures/` and `samples/`, and `report.json`.

    Raises:
        StageFailure: if the folder cannot be written to.
    """
    for picture in report.pictures:
        if picture.figure is not None:
            path = folder / picture.file
            path.parent.mkdir(parents=True, exist_ok=True)
            save_svg(picture.figure, path)
    files = _write_samples(report.samples, folder)
    for name, text in (
        (HTML, _template(f"{HTML}.jinja", escape=True).render(_words(report))),
        (MARKDOWN, _template(f"{MARKDOWN}.jinja").render(_words(report), files=files)),
        (JSON, json.dumps(to_json(report, files), indent=2, ensure_ascii=False) + "\n"),
    ):
        with atomic_path(folder / name) as path:
            path.write_text(text, encoding="utf-8")


def to_json(report: Report, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The report as JSON values."""
    return {
        "title": report.title,
        "table_1": report.table.to_json(),
        "table_2": report.opinions,
        "figures": {
            picture.name: {"file": picture.file} if picture.figure else {"needs": picture.needs}
            for picture in report.pictures
        },
        "ablation": report.ablation,
        "claims": [claim.to_json() for claim in report.claims],
        "samples": files,
        "notes": list(report.notes),
        "made": report.made,
    }


def _pictures(
    evaluations: Sequence[Evaluation],
    ablation: Mapping[str, Any] | None,
    runtime: Mapping[str, Any] | None,
) -> list[Picture]:
    several = len(evaluations) > 1
    drawn = [
        Picture(
            name=f"figure-2-{number}" if several else "figure-2",
            title=f"Figure 2, {evaluation.name}" if several else "Figure 2",
            caption="Acoustic consistency between the prompt and what follows it; the line is the "
            "median over utterances, the band the inter-quartile range.",
            figure=figure_2(
                evaluation.value.get("curves", {}).get(CONSISTENCY, {}), colours(evaluation)
            ),
            needs="an evaluation with the measure consistency (soundstorm eval --consistency)",
        )
        for number, evaluation in enumerate(evaluations, start=1)
    ]
    found = [picture for picture in drawn if picture.figure]
    if not found:
        found = [replace(drawn[0], name="figure-2", title="Figure 2")]
    found.append(
        Picture(
            name="figure-3",
            title="Figure 3",
            caption=_runtime_caption(runtime),
            figure=figure_3(runtime) if runtime else None,
            needs="--runtime, the JSON file of the runtime benchmark "
            "(python -m benchmarks.runtime)",
        )
    )
    found.append(
        Picture(
            name="figure-4",
            title="Figure 4",
            caption="What the number of iterations in the first level is worth, with greedy "
            "further levels; bands are 95 % intervals.",
            figure=figure_4(ablation) if ablation else None,
            needs="--ablation, a folder of soundstorm ablate with settings of the first level",
        )
    )
    return found


def _runtime_caption(runtime: Mapping[str, Any] | None) -> str:
    if runtime is None:
        return ""
    machine = runtime["machine"]
    on = machine.get("accelerator", machine["processor"])
    return (
        f"Seconds to generate audio on {on} with {machine['threads']} threads; hollow marks are "
        "extrapolated."
    )


def colours(evaluation: Evaluation) -> dict[str, str]:
    """A colour of each system: recordings in the colour of text, the others in the palette's."""
    generated = [one.name for one in evaluation.systems if one.kind != "recordings"]
    found = {one.name: INK for one in evaluation.systems}
    for index, name in enumerate(generated):
        found[name] = PALETTE[index % len(PALETTE)]
    return found


def _template(name: str, *, escape: bool = False) -> Any:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "arrow": arrow,
        "heading": heading,
        "settings": settings_text,
        "value": _value,
        "difference": _difference,
        "cell": lambda text: str(text).replace("|", "\\|"),
    }
    return environment.get_template(name)


def _words(report: Report) -> dict[str, Any]:
    """What the templates are given."""
    return {
        "report": report,
        "css": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "ablated": columns(report.ablation["metrics"]) if report.ablation else [],
        "smallest_gain": SMALLEST_GAIN,
        "unmeasured": UNMEASURED,
    }


def _value(found: Mapping[str, Any], metric: Metric) -> str:
    return f"{metric.scale * found['value']:.{metric.digits}f}"


def _difference(found: Mapping[str, Any], metric: Metric) -> str:
    return difference_text(Estimate(**found), metric)


def _write_samples(samples: Sequence[Sample], folder: Path) -> dict[str, dict[str, Any]]:
    """Sound and pictures as files, for the Markdown; paths from the folder, by id and label.

    Those of a report that lay there before go, since this one may have fewer.
    """
    for old in (folder / SAMPLES).glob("*"):
        if OWN_SAMPLE.fullmatch(old.name):
            old.unlink()
    files: dict[str, dict[str, Any]] = {}
    for number, sample in enumerate(samples, start=1):
        files[sample.id] = {}
        for position, clip in enumerate(sample.clips, start=1):
            stem = f"{SAMPLES}/{number}-{position}"
            for suffix, content in (("flac", clip.sound), ("png", clip.picture)):
                with atomic_path(folder / f"{stem}.{suffix}") as path:
                    path.write_bytes(content)
            files[sample.id][clip.label] = {
                "sound": f"{stem}.flac", "picture": f"{stem}.png", "seconds": clip.seconds,
            }  # fmt: skip
    return files
