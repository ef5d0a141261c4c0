"""Links between documents, their anchors, and the paths that the prose names exist."""

import re
from pathlib import Path

import pytest

from tests.docs.documents import DOCUMENTS, README, ROOT, code_spans, name_of, prose

FOLDERS = ("argo", "benchmarks", "docs", "examples", "images", "pipelines", "presets", "recipes", "steps", "tests")


def anchors(file: Path) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(file), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_each_link_leads_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(file))):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (file.parent / path).resolve() if path else file
        assert linked.exists(), target
        assert linked.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(linked), target


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_each_path_in_the_prose_exists(file: Path) -> None:
    for span in code_spans(file):
        if span.split("/")[0] in FOLDERS and re.fullmatch(r"[\w./-]+/[\w./-]*", span):
            assert (ROOT / span).exists(), span


def test_the_readme_links_every_document() -> None:
    linked = set(re.findall(r"\((docs/[a-z-]+\.md)", README.read_text()))
    assert linked == {str(file.relative_to(ROOT)) for file in (ROOT / "docs").glob("*.md")}
