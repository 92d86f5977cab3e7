"""What an ablation writes of its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.ablation.results import FIGURE_SVG, PASSES_PNG, document, write
from stages.ablation.settings import plan
from stages.ablation.timing import Times
from stages.evaluation.comparison import Comparison
from stages.evaluation.measure import Metric

QUALITY = Metric(name="dnsmos_overall", title="Quality", higher_is_better=True)


def result_of(*settings: tuple[str, list[int], float]) -> dict[str, Any]:
    """Of settings with a name, passes and a quality each; the first is the default."""
    return {
        "default": settings[0][0],
        "metrics": {"dnsmos_overall": {"higher_is_better": True}},
        "references": {},
        "rows": [
            {
                "name": name, "iterations": iterations, "temperature": 1.0,
                "passes": sum(iterations), "default": index == 0, "seconds_per_second": None,
                "times_default": None, "differences": {},
                "metrics": {"dnsmos_overall": {"value": value, "low": value, "high": value,
                                               "utterances": 2}},
            }
            for index, (name, iterations, value) in enumerate(settings)
        ],
    }  # fmt: skip


def test_figures_are_drawn_where_there_is_something_to_draw(tmp_path: Path) -> None:
    together = result_of(("16-1", [16, 1, 1], 3.0), ("16-1x2", [16, 1, 0], 2.9))
    reason = write(tmp_path / "a", together, [QUALITY])
    assert reason is not None
    assert "first level alone" in reason
    assert (tmp_path / "a" / PASSES_PNG).read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "a" / FIGURE_SVG).exists()

    first_level = result_of(("16-1", [16, 1, 1], 3.0), ("2-1", [2, 1, 1], 2.9))
    assert write(tmp_path / "b", first_level, [QUALITY]) is None
    assert (tmp_path / "b" / FIGURE_SVG).exists()

    same = result_of(("16-1", [16, 1, 1], 3.0), ("1-16", [1, 16, 1], 2.9))
    write(tmp_path / "c", same, [QUALITY])
    assert not (tmp_path / "c" / PASSES_PNG).exists()


def test_the_document_says_what_words_are_held_against(tmp_path: Path) -> None:
    wer = Metric(name="wer", title="WER", higher_is_better=False, reference="transcript")
    chosen = plan(2, first_level=[1])
    names = [setting.name for setting in chosen.settings]
    comparison = Comparison(
        systems=names, utterances=[], metrics=[wer, QUALITY], scores={name: {} for name in names},
        estimates={name: {} for name in names}, missing={}, skipped={},
    )  # fmt: skip
    times = {name: Times(tmp_path) for name in names}
    assert document(chosen, comparison, times, settings={})["metrics"] == {
        "wer": {"higher_is_better": False, "reference": "transcript"},
        "dnsmos_overall": {"higher_is_better": True},
    }
