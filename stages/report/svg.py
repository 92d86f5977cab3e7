"""Figures as files of their own and as part of a page, the same bytes for the same numbers."""

from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure

from stages.shards.writer import atomic_path

INK = "#101418"
"""What figures draw text, axes and recordings in; in a page it is the page's own colour of text."""

PAPER = "#fffffe"
"""What hollow marks are filled with; in a page it is the page's own ground."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours that people with any colour vision tell apart, on white and on black."""

MARKERS = "osD^vP"
"""One for each colour of the palette, for print without colours."""

STYLE = {
    "font.size": 9.0,
    "axes.labelsize": 9.0,
    "axes.titlesize": 9.0,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
}

ZOOM = 1.5
"""Pixels of a page for a point, the same for all figures, so that their letters are of one size."""

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def save_svg(figure: Figure, path: Path) -> None:
    """Write a figure as a file that looks alike everywhere: letters as outlines, on white.

    Raises:
        StageFailure: if it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(_render(figure, path.stem, fonttype="path", transparent=False))


def inline_svg(figure: Figure, name: str, title: str) -> str:
    """A figure as an `<svg>` element for a page: its text is text, in the page's font and colour.

    Args:
        figure: what to draw.
        name: unique in the page; goes in front of all the element's ids.
        title: what the figure shows, for those who do not see it.
    """
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    text = _render(figure, name, fonttype="none", transparent=True).decode()
    # The page's own colours, which change with the reader's preference for light or dark.
    text = text.replace(INK, "currentColor").replace(PAPER, "var(--page)")
    root = ElementTree.fromstring(text)
    for element in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(element)
    for definitions in root.findall(f"{{{_SVG}}}defs"):  # a style would hold for the whole page
        for style in definitions.findall(f"{{{_SVG}}}style"):
            definitions.remove(style)
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                value = f"{name}-{value}"
            elif key == f"{{{_XLINK}}}href":
                value = value.replace("#", f"#{name}-")
            elif "url(#" in value:
                value = value.replace("url(#", f"url(#{name}-")
            element.set(key, value)
    for size in ("width", "height"):
        root.attrib.pop(size)  # the page says; the view box keeps the shape
    width = float(root.attrib["viewBox"].split()[2])  # points
    root.set("style", f"--width: {ZOOM * width:.0f}px")
    root.set("role", "img")
    root.set("aria-label", title)
    return ElementTree.tostring(root, encoding="unicode")


def _render(figure: Figure, salt: str, *, fonttype: str, transparent: bool) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context({**STYLE, "svg.fonttype": fonttype, "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", transparent=transparent, metadata=_METADATA)
    # Some versions of matplotlib end lines with blanks.
    return re.sub(rb"[ \t]+\n", b"\n", buffer.getvalue())
