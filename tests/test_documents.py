"""Documents lead where they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path
    for folder, pattern in ((".", "*.md"), ("docs", "*.md"), ("examples", "**/*.md"))
    for path in (REPOSITORY / folder).glob(pattern)
)


def anchors(document: Path) -> set[str]:
    """What a link may name after its `#`, as GitHub makes it of headings."""
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_within_the_repository_lead_to_a_file_and_its_heading(document: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, heading = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (heading and heading not in anchors(target)):
            broken.append(link)
    assert not broken


def test_the_index_names_every_document() -> None:
    index = (REPOSITORY / "docs" / "README.md").read_text()
    pages = {path.name for path in (REPOSITORY / "docs").glob("*.md")} - {"README.md"}
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", index)) == pages


def test_documents_that_code_points_to_exist() -> None:
    for folder in ("benchmarks", "examples", "scripts", "soundstorm_cli", "stages", "tests"):
        for source in (REPOSITORY / folder).rglob("*.py"):
            for name in re.findall(r"docs/[\w-]+\.(?:md|png)", source.read_text()):
                assert (REPOSITORY / name).exists(), f"{source} points to {name}"
