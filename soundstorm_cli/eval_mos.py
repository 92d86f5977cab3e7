"""`soundstorm eval mos`: mean opinion scores from listeners' ratings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from soundstorm_cli.common import JsonOption, QuietOption, finish, say, show_tables

if TYPE_CHECKING:
    from stages.evaluation.ratings import OpinionReport
    from stages.evaluation.report import Grid

MOS_JSON = "mos.json"


def eval_mos(
    ratings: Annotated[
        str,
        typer.Argument(
            metavar="RATINGS",
            help="CSV, TSV or Parquet with the columns rater, sample, system and score (1 to 5).",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help=f"A folder for {MOS_JSON} and table.md."),
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Mean opinion scores of listening tests, with what raters agree on and which systems differ.

    Means by system with 95 % bootstrap intervals over raters and samples, Krippendorff's alpha,
    and Wilcoxon's signed-rank test of each two systems on the samples they share, with Holm's
    correction. To judge a folder that is called mos, write soundstorm eval ./mos.
    """
    from stages.evaluation.ratings import read_ratings, summarise
    from stages.evaluation.report import TABLE_MD, markdown
    from stages.shards.writer import atomic_path

    given = read_ratings(Path(ratings))
    report = summarise(given)
    result = {"ratings": len(given), **report.to_json()}
    grids = _grids(report)
    if output is not None:
        folder = Path(output)
        with atomic_path(folder / MOS_JSON) as path:
            text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
            path.write_text(text, encoding="utf-8")
        with atomic_path(folder / TABLE_MD) as path:
            path.write_text(markdown(grids), encoding="utf-8")
        result["output"] = output
    if report.agreement is None:
        say("eval mos: no agreement: raters share no sample, or all scores are equal", quiet=quiet)
    if not (quiet and as_json):
        show_tables(grids, to_stderr=as_json)
    finish(result, failed=0, keep_going=False, as_json=as_json)


def _grids(report: OpinionReport) -> list[Grid]:
    """Systems; pairs of them, where there are any; raters."""
    from stages.evaluation.report import NOTHING, cell

    systems = [
        [
            name,
            cell(found.estimate, 1, 2),
            str(found.ratings),
            str(found.raters),
            str(found.estimate.utterances),
        ]
        for name, found in report.systems.items()
    ]
    grids: list[Grid] = [(["", "MOS ↑", "ratings", "raters", "samples"], systems)]
    pairs = [
        [
            " - ".join(pair.systems),
            f"{pair.difference:+.2f}",
            str(pair.samples),
            f"{pair.p:.3g}",
            f"{pair.adjusted:.3g}",
        ]
        for pair in report.pairs
    ]
    if pairs:
        grids.append((["difference", "MOS", "shared samples", "p", "p (Holm)"], pairs))
    alpha = NOTHING if report.agreement is None else f"{report.agreement:.2f}"
    grids.append((["raters", "Krippendorff's α ↑"], [["agreement", alpha]]))
    return grids
