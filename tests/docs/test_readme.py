"""The README is short, and what it and the documentation state as a number is so."""

import yaml

from tests.docs.documents import README, ROOT

MOST_WORDS = 1500


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= MOST_WORDS


def test_the_maturity_stands_on_the_first_screen() -> None:
    assert any(line.startswith("**Maturity") for line in README.read_text().splitlines()[:20])


def test_each_overlay_is_documented() -> None:
    cluster = (ROOT / "docs" / "cluster.md").read_text()
    for overlay in (ROOT / "argo" / "overlays").iterdir():
        assert f"`argo/overlays/{overlay.name}`" in cluster


def test_the_published_peaks_that_the_memory_arithmetic_is_compared_with_are_counted_as_they_are() -> None:
    rows = yaml.safe_load((ROOT / "tests" / "presets" / "published_memory.yaml").read_text())["rows"]
    claimed = [row for row in rows if row["claimed"]]
    tuning = " ".join((ROOT / "docs" / "tuning.md").read_text().split())
    assert f"Against {len(claimed)} peaks of GPUs" in tuning
    assert max(abs(row["error"]) for row in claimed) <= 4
    assert len(rows) - len(claimed) == 2
