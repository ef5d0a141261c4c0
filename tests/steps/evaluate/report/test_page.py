"""The report as a page: complete, safe whatever a model answers, and left for Argo only if the settings allow it."""

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import steps.evaluate.report.page
from steps.common.handover.report import EvaluationReport
from steps.common.handover.resolved import Resolved, ResolvedData
from steps.evaluate.report.page import leave_for_argo, render
from steps.evaluate.report.plots import ticks
from steps.plan.step import PlanInput, resolve

GAIN = {"value": 0.2, "low": 0.1, "high": 0.3, "rows": 39}
REPORT: dict[str, Any] = {
    "run": "first",
    "rows": {},
    "passed": False,
    "reasons": ["held-out loss 2.0 against the base's 1.0"],
    "champion_version": 4,
    "evaluated": "as served",
    "cost": None,
    "quote": {"tokens": 900, "steps": 30, "minutes": {"tune": 1.5, "rollout": 0.0}, "on": "cpu"},
    "scores": {
        "base": {"loss": 1.0, "perplexity": 2.718, "accuracy": 0.5, "tokens": 10},
        "candidate": {"loss": 2.0, "perplexity": 7.389, "accuracy": 0.25, "tokens": 10},
        "champion": {"loss": 1.5, "perplexity": 4.482, "accuracy": 0.3, "tokens": 10},
    },
    "gains": {"base": GAIN, "champion": {"value": -0.1, "low": None, "high": None, "rows": 1}},
    "general": {"accuracy": {"base": 0.7, "candidate": 0.6}, "gain": {**GAIN, "value": -0.1, "low": -0.2, "high": 0.0}},
    "tasks": [
        {
            "name": "exact of <capitals>",
            "metric": "exact",
            "at_least": 0.8,
            "means": {"base": 0.1, "candidate": 0.9, "champion": 0.85},
            "base": GAIN,
            "champion": GAIN,
        }
    ],
    "data": {
        "train_rows": 5,
        "validation_rows": 2,
        "bad_rows": 1,
        "train_tokens": 100,
        "labelled_share": 0.25,
        "turns_learnt": 9,
        "turns_read": 4,
        "warnings": ["no row teaches the <model> to stop"],
    },
    "tuning": {
        "steps": 30,
        "seconds": 61,
        "tokens_a_second": 321.4,
        "first_loss": 3.0,
        "last_loss": 1.0,
        "losses": [[step, 3 / step] for step in range(1, 31)],
        "learning_rates": [1e-4 * step for step in range(1, 31)],
        "peak_bytes": 3 << 30,
        "predicted_bytes": 2 << 30,
        "mfu": 0.41,
    },
    "sample": [{"text": "<|im_start|>user\nHello", "learnt": False}, {"text": "Good day & welcome", "learnt": True}],
    "answers": [
        {
            "asked": "<script>alert(1)</script>",
            "wanted": "",
            "base": "a & b",
            "candidate": '"quoted" <img src=x onerror=y>',
        }
    ],
}
PLOTS = (
    "The candidate's gains, with 95% confidence intervals",
    "Loss",
    "Learning rate",
    "Peak memory of the tuning",
    "Training tokens per epoch",
)


class Seen(HTMLParser):
    """What a browser would see."""

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


def page_of(report: dict[str, Any], resolved: Resolved) -> str:
    return render(EvaluationReport.model_validate(report), resolved)


@pytest.fixture
def resolved(tiny_model: Path, chats: Path) -> Resolved:
    recipe = f"{{name: tiny, model: '{tiny_model.as_uri()}', data: {{train: {chats}, max_tokens: 64}}}}"
    return resolve(PlanInput(recipe=recipe))


def test_the_page_has_verdict_scores_and_answers_and_loads_nothing(resolved: Resolved) -> None:
    seen = Seen()
    page = page_of(REPORT, resolved)
    seen.feed(page)
    assert {"refused", "2.000", "7.39", "25.0%", "<script>alert(1)</script>", "a & b"} <= set(seen.text)
    assert {"version 4, the champion", "exact of <capitals>", "90.0%", "80.0%"} <= set(seen.text)
    assert "30 steps in 1m01s, 321 tokens/s, 41% of the device's peak (MFU)" in " ".join(seen.text)
    assert {"9 turns of the assistant learned, 4 only read", "no row teaches the <model> to stop"} <= set(seen.text)
    assert not seen.tags & {"script", "img", "link", "iframe"}
    assert seen.loads == []
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", page.replace(resolved.model.uri, ""))


def test_the_sources_of_a_mixture_are_listed(resolved: Resolved) -> None:
    [own] = resolved.data.train
    other = own.model_copy(update={"files": [*own.files, *own.files], "source": "chats/", "weight": 0.5})
    mixture = resolved.model_copy(update={"data": ResolvedData(train=[own, other])})
    assert f"{own.files[0].path}; chats/ (2 files), 0.5 times per epoch" in page_of(REPORT, mixture)
    assert "sources" not in page_of(REPORT, resolved)


def test_learnt_text_of_the_sample_is_bold_and_other_text_is_not(resolved: Resolved) -> None:
    page = page_of(REPORT, resolved)
    assert "<b>Good day &amp; welcome</b>" in page
    assert "<span>&lt;|im_start|&gt;user\nHello</span>" in page


def test_each_plot_is_drawn_and_well_formed(resolved: Resolved) -> None:
    drawn = plots_of(page_of(REPORT, resolved))
    assert tuple(drawn) == PLOTS
    for name, svg in drawn.items():
        _, _, width, height = map(float, svg.attrib["viewBox"].split())
        for mark in svg.iter():
            x, y = (float(mark.attrib.get(key) or mark.attrib.get(f"c{key}") or 0) for key in ("x", "y"))
            assert 0 <= x <= width, name
            assert 0 <= y <= height, name
    (line,) = (mark for mark in drawn["Learning rate"].iter("polyline"))
    heights = [float(point.partition(",")[2]) for point in line.attrib["points"].split()]
    assert heights == sorted(heights, reverse=True)  # the rate rises, and SVG counts from the top
    assert len(heights) == 30
    taken, predicted = (rect.attrib for rect in reversed(list(drawn[PLOTS[3]].iter("rect"))))
    assert float(taken["width"]) == pytest.approx(1.5 * float(predicted["width"]), rel=0.01)


def test_a_plot_without_numbers_is_left_out(resolved: Resolved) -> None:
    bare = {**REPORT, "tuning": {}, "data": {}, "general": None, "tasks": []}
    assert list(plots_of(page_of(bare, resolved))) == [PLOTS[0]]


def test_a_loss_that_is_nan_is_left_out_of_the_curve(resolved: Resolved) -> None:
    losses = [[1, 2.0], [2, float("nan")], [3, 1.0]]
    page = page_of({**REPORT, "tuning": {**REPORT["tuning"], "losses": losses}}, resolved)
    assert "Loss" in plots_of(page)
    points = next(plots_of(page)["Loss"].iter("polyline")).attrib["points"].split()
    assert len(points) == 2


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [(0, 1, [0, 0.5, 1]), (0.02, 0.11, [0, 0.05, 0.1, 0.15]), (5, 5, [2, 4, 6, 8]), (1, 30, [0, 10, 20, 30])],
)
def test_an_axis_has_round_numbers_that_span_the_values(low: float, high: float, found: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(found)


def plots_of(page: str) -> dict[str, ElementTree.Element]:
    return {
        html.unescape(name): ElementTree.fromstring(svg)
        for name, svg in re.findall(r"<figcaption>(.*?)</figcaption>(<svg .*?</svg>)", page)
    }


@pytest.mark.parametrize(("setting", "left"), [("", False), ("false", False), ("true", True)])
def test_the_page_is_left_for_argo_only_if_it_stores_artifacts(
    setting: str, left: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps.evaluate.report.page, "PAGE", tmp_path / "page.html")
    monkeypatch.setenv("FINELINE_ARTIFACTS", setting)
    leave_for_argo("<p>")
    assert (tmp_path / "page.html").exists() is left
