"""The figure: runtime over length of audio, a panel a size (paper, Figure 3)."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FormatStrFormatter

from benchmarks.runtime.report import Report

COLOURS = {
    "acoustic": "#d62728",
    "semantic": "#ff7f0e",
    "soundstorm": "#1f77b4",
    "codec": "#7f7f7f",
}


def draw(report: Report, target: Path) -> None:
    """Write a picture; hollow marks are extrapolated, the dotted line is real time."""
    sizes = report.sizes()
    figure, axes = plt.subplots(
        1, len(sizes), figsize=(4.6 * len(sizes), 4.2), sharey=True, squeeze=False
    )
    for size, axis in zip(sizes, axes[0], strict=True):
        audio: list[float] = []
        for system, colour in COLOURS.items():
            cells = [cell for cell in report.cells_of(size) if cell.system == system]
            audio = [cell.audio for cell in cells]
            axis.plot(audio, [cell.runtime for cell in cells], color=colour, label=cells[0].label)
            for cell in cells:
                axis.plot(
                    cell.audio, cell.runtime, marker="o", color=colour,
                    markerfacecolor="white" if cell.extrapolated else colour,
                )  # fmt: skip
        axis.plot(audio, audio, color="black", linestyle=":", linewidth=1, label="real time")
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_xticks(audio)
        axis.set_xlabel("audio, seconds")
        axis.set_title(size, loc="left", fontsize=10)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("runtime, seconds")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if any(cell.extrapolated for cell in report.cells):
        (hollow,) = axes[0, 0].plot(
            [], [], marker="o", color="black", markerfacecolor="white", linestyle=""
        )
        handles, labels = [*handles, hollow], [*labels, "extrapolated"]
    figure.legend(handles, labels, loc="lower center", ncols=3, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    figure.savefig(target, dpi=120)
    plt.close(figure)
