"""The page: what it says, that it needs nothing else, and how a browser takes it."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages.evaluation.systems import open_system
from stages.report.evaluations import read_evaluations
from stages.report.page import Report, compose, write_report
from stages.report.samples import choose, hear

OPINIONS = {
    "systems": {"soundstorm": {"mos": 3.79, "low": 3.68, "high": 3.9, "ratings": 400,
                               "raters": 10, "samples": 40}},
    "krippendorff_alpha": 0.4,
    "pairs": [],
}  # fmt: skip
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture
def report(evaluation: Path, ablation: dict[str, Any]) -> Report:
    read = read_evaluations([str(evaluation)])
    systems = {
        one.label: open_system(one.name, str(evaluation.parent / one.name))
        for one in read[0].systems
    }
    samples, _ = hear(choose(read, 2), systems, read)
    return compose(
        read, title="A <made-up> report", ablation=ablation, runtime=None, opinions=OPINIONS,
        samples=samples, notes=["Nothing is missing."],
    )  # fmt: skip


def test_samples_of_a_report_before_go_and_the_user_s_files_stay(
    report: Report, tmp_path: Path
) -> None:
    write_report(report, tmp_path)
    folder = tmp_path / "samples"
    (folder / "notes.txt").write_text("mine")
    assert len(list(folder.iterdir())) == 2 * 2 * 6 + 1
    write_report(replace(report, samples=report.samples[:1]), tmp_path)
    assert len(list(folder.iterdir())) == 2 * 6 + 1
    assert (folder / "notes.txt").read_text() == "mine"


def test_all_three_say_the_same(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    page, text = ((tmp_path / name).read_text() for name in ("report.html", "report.md"))
    value = json.loads((tmp_path / "report.json").read_text())
    assert "A &lt;made-up&gt; report" in page
    assert "it is &lt;made&gt; up &amp; said" in page
    for sentence in (
        "With a speaker prompt",
        "Figure 3 is left out: it needs --runtime, the JSON file of the runtime benchmark",
        "contradicts it",
        "Nothing is missing.",
        "seed 7; temperature 1; iterations 16, 1",
        "d" * 64,
        "6 utterances of tokens",
        "SoundStorm is more intelligible than AudioLM: its WER is lower.",
        "3.68 to 3.90",
    ):
        assert sentence in page, sentence
        assert sentence in text, sentence
    for name in ("figure-2", "figure-4"):
        assert (tmp_path / value["figures"][name]["file"]).is_file()
        assert f"![{name.replace('-', ' ').capitalize()}](figures/{name}.svg)" in text
    assert "needs" in value["figures"]["figure-3"]
    assert value["table_1"]["utterances"] == {"short": 3, "mid": 3}
    assert len(value["claims"]) == 4
    for clips in value["samples"].values():
        assert len(clips) == 6
        for clip in clips.values():
            assert (tmp_path / clip["sound"]).is_file()
            assert clip["picture"] in text
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_folders_of_one_name_lose_no_system(evaluation: Path, tmp_path: Path) -> None:
    other = shutil.copytree(evaluation.parent, tmp_path / "other") / "eval"
    read = read_evaluations([str(evaluation), str(other)])
    composed = compose(
        read, title="Two", ablation=None, runtime=None, opinions=None, samples=[], notes=[]
    )
    write_report(composed, tmp_path / "report")
    value = json.loads((tmp_path / "report" / "report.json").read_text())
    groups = value["table_1"]["groups"]
    assert sum(len(group["systems"]) for group in groups) == 2 * 6
    assert [one["name"] for one in value["made"]["evaluations"]] == ["made/eval", "other/eval"]
    assert [picture.title for picture in composed.pictures[:2]] == [
        "Figure 2, made/eval", "Figure 2, other/eval",
    ]  # fmt: skip


def test_tables_of_the_markdown_are_rectangular(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    blocks = re.findall(r"(?:^\|.*\n)+", (tmp_path / "report.md").read_text(), re.MULTILINE)
    assert len(blocks) == 3 + 4 + 2  # scores, ratings, settings; claims; samples
    for block in blocks:
        lines = block.splitlines()
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1, block
        assert set(lines[1]) <= set("|-:")


def test_the_same_scores_give_the_same_bytes(report: Report, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_report(report, tmp_path / name)
    first, second = (
        {path.relative_to(tmp_path / name): path.read_bytes()
         for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in ("a", "b")
    )  # fmt: skip
    assert first == second


def test_nothing_of_the_page_is_elsewhere(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    page = (tmp_path / "report.html").read_text()
    found = re.findall(r"""(?:src|href)=["']([^"']{0,40})""", page)
    assert len(found) > 20
    assert all(reference.startswith(("data:", "#")) for reference in found)
    assert not re.search(r"url\((?!#)|@import|<script|<link rel=.stylesheet", page)


def test_a_browser_shows_and_plays_it_and_asks_nobody(report: Report, tmp_path: Path) -> None:
    """Real headless Chromium: requests, console, images, players, tables, widths, both schemes."""
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)}")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    write_report(report, tmp_path)
    address = (tmp_path / "report.html").as_uri()
    requests: list[str] = []
    complaints: list[str] = []
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has none
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=sandbox)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)  # a busy machine starts players slowly
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.wait_for_function(
            "[...document.querySelectorAll('audio')].every(one => one.readyState >= 1)"
        )
        images = page.evaluate("[...document.images].map(one => one.naturalWidth)")
        seconds = page.evaluate("[...document.querySelectorAll('audio')].map(one => one.duration)")
        played = page.evaluate(
            """async () => {
                const sound = document.querySelector('audio');
                sound.muted = true;
                await sound.play();
                await new Promise(done => { sound.onended = done; });
                return sound.currentTime;
            }"""
        )
        plots = page.evaluate(
            "[...document.querySelectorAll('.plot svg')].map(one => one.getBBox().width)"
        )
        tables = page.locator("table").count()
        headings = page.locator("h2").all_inner_texts()
        grounds, overflow = [], []
        for scheme in ("light", "dark"):
            for width in (1280, 360):
                page.emulate_media(color_scheme=scheme)
                page.set_viewport_size({"width": width, "height": 800})
                overflow.append(page.evaluate("document.documentElement.scrollWidth") - width)
            style = "getComputedStyle(document.body)"
            grounds.append(page.evaluate(f"[{style}.backgroundColor, {style}.color]"))
        browser.close()
    assert [url for url in requests if not url.startswith("data:")] == [address]
    assert complaints == []
    assert len(images) == 12
    assert min(images) > 0
    assert seconds == pytest.approx([0.5] * 6 + [1.0] * 6, abs=0.02)
    assert played == pytest.approx(0.5, abs=0.05)
    assert len(plots) == 2
    assert min(plots) > 100
    assert tables == 3 + 4
    assert headings == [
        "Scores", "Ratings by listeners", "Settings of decoding", "The paper's claims", "Figures",
        "Listen", "How it was made",
    ]  # fmt: skip
    assert max(overflow) <= 0  # only tables and plots scroll sideways, each on its own
    (light, dark) = grounds
    assert light[0] != dark[0]
    assert light[1] != dark[1]
