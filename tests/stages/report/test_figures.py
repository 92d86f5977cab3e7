"""Figures: what is drawn, what is left out, and how they become part of a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from stages.report.figures import figure_2, figure_3, figure_4, figure_passes
from stages.report.svg import INK, inline_svg, save_svg

CURVES = {
    "seconds": [1.5, 4.5, 7.5],
    "systems": {
        "recordings": {"median": [0.9, 0.9, 0.8], "low": [0.8] * 3, "high": [1.0] * 3},
        "soundstorm": {"median": [0.8, 0.7, None], "low": [0.7, 0.6, None],
                       "high": [0.9, 0.8, None]},
    },
}  # fmt: skip
COLOURS = {"recordings": INK, "soundstorm": "#0072B2"}
RUNTIME: dict[str, Any] = {
    "cells": [
        {"size": size, "system": name, "label": name.upper(), "audio": audio,
         "runtime": audio / 10, "extrapolated": audio > 5}
        for size, name in (("mini", "soundstorm"), ("350m", "soundstorm"), ("mini codec", "codec"))
        for audio in (5.0, 30.0)
    ]
}  # fmt: skip


def test_consistency_over_time_ends_where_a_system_ends() -> None:
    figure = figure_2(CURVES, COLOURS)
    assert figure is not None
    (axis,) = figure.axes
    lines = {line.get_label(): line.get_xdata() for line in axis.get_lines()}
    assert {name: list(seconds) for name, seconds in lines.items()} == {
        "recordings": [1.5, 4.5, 7.5],
        "soundstorm": [1.5, 4.5],
    }
    assert figure_2({}, COLOURS) is None


def test_runtime_has_a_panel_a_size_with_the_codec_in_each() -> None:
    figure = figure_3(RUNTIME)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["mini", "350m"]
    for axis in figure.axes:
        labels = {line.get_label() for line in axis.get_lines()}
        assert {"SOUNDSTORM", "CODEC", "real time"} <= labels
    assert "extrapolated" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_iterations_are_of_settings_that_differ_in_the_first_level(
    ablation: dict[str, Any],
) -> None:
    figure = figure_4(ablation)
    assert figure is not None
    (axis,) = figure.axes
    (line,) = axis.get_lines()
    assert list(line.get_xdata()) == [1, 16, 32]  # not the one with more on further levels
    assert list(line.get_ydata()) == [3.15, 3.5, 3.51]
    assert axis.get_title(loc="left") == "Audio quality (DNSMOS) (higher is better)"
    ablation["rows"] = [row for row in ablation["rows"] if row["default"]]
    assert figure_4(ablation) is None


def test_rates_against_transcripts_are_called_so(ablation: dict[str, Any]) -> None:
    ablation["metrics"] = {"wer": {"higher_is_better": False, "reference": "transcript"}}
    for row in ablation["rows"]:
        row["metrics"] = {"wer": {"value": 0.1, "low": 0.0, "high": 0.2, "utterances": 6}}
    for figure in (figure_4(ablation), figure_passes(ablation)):
        assert figure is not None
        (axis,) = figure.axes
        assert axis.get_title(loc="left") == "WER (to transcripts), % (lower is better)"


def test_passes_are_all_of_the_network_and_kinds_of_settings_are_told_apart(
    ablation: dict[str, Any],
) -> None:
    base = next(row for row in ablation["rows"] if row["default"])
    ablation["rows"] += [
        base | {"name": "1x2", "iterations": [1, 0], "passes": 1, "temperature": 0.0,
                "default": False},
        base | {"name": "16-1-t0.5", "temperature": 0.5, "default": False},
        base | {"name": "16-1-g2", "guidance": 2.0, "passes": 34, "default": False},
    ]  # fmt: skip
    figure = figure_passes(ablation)
    assert figure is not None
    (axis,) = figure.axes
    passes = {bar.get_label(): list(bar.lines[0].get_xdata()) for bar in axis.containers}
    assert passes == {
        "level by level": [2, 17, 32, 33],
        "levels together": [1],
        "another temperature": [17],
        "guided": [34],
    }
    assert list(axis.get_xticks()) == [1, 2, 17, 32]  # 33 would be written over 32, as would 34
    drawn = figure_4(ablation)
    assert drawn is not None
    assert list(drawn.axes[0].get_lines()[0].get_xdata()) == [1, 16, 32]
    ablation["rows"] = [base]
    assert figure_passes(ablation) is None


def test_a_file_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    figure = figure_3(RUNTIME)
    for name in ("a", "b"):
        save_svg(figure, tmp_path / name / "figure.svg")
    first, second = ((tmp_path / name / "figure.svg").read_bytes() for name in ("a", "b"))
    assert first == second
    assert b"<text" not in first  # letters are outlines: no font is missed anywhere


def test_an_inline_figure_takes_the_pages_colours_and_keeps_its_ids_apart() -> None:
    figure = figure_3(RUNTIME)
    texts = [inline_svg(figure, name, "how <long>") for name in ("one", "two")]
    ids = [
        {element.get("id") for element in ElementTree.fromstring(text).iter() if element.get("id")}
        for text in texts
    ]
    assert len(ids[0]) > 20
    assert not ids[0] & ids[1]
    (text, _) = texts
    root = ElementTree.fromstring(text)
    assert root.get("aria-label") == "how <long>"
    for element in root.iter():
        for key, value in element.attrib.items():
            if key.endswith("href") or "url(" in value:
                assert value.split("#")[1].split(")")[0] in ids[0]
    assert ">real time</text>" in text  # in the page's font, to be read and searched
    assert "currentColor" in text
    assert INK not in text
    assert "<style" not in text
    assert "http" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "").replace(
        'xmlns:xlink="http://www.w3.org/1999/xlink"', ""
    )
