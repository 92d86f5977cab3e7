"""The figure: runtime over length of audio, a panel a size (paper, Figure 3)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.runtime.report import Report
from stages.report.figures import figure_3


def draw(report: Report, target: Path) -> None:
    """Write a picture; hollow marks are extrapolated, the dotted line is real time."""
    figure_3(report.to_json()).savefig(target, dpi=150)
