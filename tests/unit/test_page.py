"""The report as a page: whole, safe with whatever a model answers, and left for Argo only where it may be."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import steps.evaluate.page
from steps.common.resolved import Resolved
from steps.evaluate.page import for_argo, render
from steps.plan.step import PlanInput, resolve

REPORT: dict[str, Any] = {
    "passed": False,
    "reasons": ["held-out loss 2.0 against the base's 1.0"],
    "evaluated": "as served",
    "cost": None,
    "scores": {
        "base": {"loss": 1.0, "perplexity": 2.718, "accuracy": 0.5, "tokens": 10},
        "candidate": {"loss": 2.0, "perplexity": 7.389, "accuracy": 0.25, "tokens": 10},
    },
    "answers": [{"asked": "<script>alert(1)</script>", "base": "a & b", "candidate": '"quoted" <img src=x onerror=y>'}],
}


class Seen(HTMLParser):
    """What a browser would make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def resolved(tiny_model: Path, chats: Path) -> Resolved:
    recipe = f"{{name: tiny, model: '{tiny_model.as_uri()}', data: {{train: {chats}, max_tokens: 64}}}}"
    return resolve(PlanInput(recipe=recipe))


def test_the_page_has_verdict_scores_and_answers_and_loads_nothing(resolved: Resolved) -> None:
    seen = Seen()
    seen.feed(render(REPORT, resolved))
    assert {"refused", "2.000", "7.39", "25.0%", "<script>alert(1)</script>", "a & b"} <= set(seen.text)
    assert not seen.tags & {"script", "img", "link", "iframe"}
    assert seen.loads == []


@pytest.mark.parametrize(("setting", "left"), [("", False), ("false", False), ("true", True)])
def test_argo_is_given_the_page_only_where_it_keeps_artifacts(
    setting: str, left: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps.evaluate.page, "PAGE", tmp_path / "page.html")
    monkeypatch.setenv("FINELINE_ARTIFACTS", setting)
    for_argo("<p>")
    assert (tmp_path / "page.html").exists() is left
