"""The report of a run as one page of HTML that loads nothing: MLflow keeps it, and Argo where it keeps artifacts."""

import html
import os
from pathlib import Path
from typing import Any

from steps.common.resolved import Resolved

# Argo ends a run with an error when there is an output artifact and no repository for it; so the file is written for
# Argo only where the namespace's settings say that there is one.
SETTING = "FINELINE_ARTIFACTS"
PAGE = Path("/tmp/fineline-report.html")
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0;width:100%}"
    "td,th{border:1px solid #ccc;padding:.4rem .6rem;text-align:left;vertical-align:top}"
    "td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}.passed{color:#176b2c}.refused{color:#a11}"
)


def for_argo(page: str) -> None:
    """Leave the page where Argo takes it from, where the settings say that it may."""
    if os.environ.get(SETTING) == "true":
        PAGE.write_text(page, encoding="utf-8")


def render(report: dict[str, Any], resolved: Resolved) -> str:
    """Return the page of an evaluation's report."""
    recipe, quote = resolved.recipe, resolved.quote
    verdict = "passed" if report["passed"] else "refused"
    facts = [
        ("run", resolved.run),
        ("base model", f"{resolved.model.uri} ({resolved.model.licence})"),
        ("training rows", f"sha256 {resolved.data.train.sha256}"),
        (
            "tuning",
            f"{recipe.tune.objective}, {recipe.tune.method}, rank {recipe.tune.rank}, {recipe.tune.epochs:g} epochs, "
            f"{quote.tokens} tokens",
        ),
        *([("cost", cost_in_words(report["cost"]))] if report.get("cost") else []),
        ("code", resolved.code_version),
    ]
    scores = [
        [who, f"{s['loss']:.3f}", f"{s['perplexity']:.2f}", f"{s['accuracy']:.1%}", *preferred(s, report)]
        for who, s in report["scores"].items()
    ]
    columns = ["model", "loss", "perplexity", "token accuracy", *(["pairs preferred"] if scores[0][4:] else [])]
    answers = [[a["asked"], a["base"], a["candidate"]] for a in report["answers"]]
    parts = [
        f"<h1>{_safe(recipe.name)}</h1>",
        f'<p class="{verdict}"><strong>{verdict}</strong>: {_safe("; ".join(report["reasons"]))}</p>',
        _table(["", ""], [list(fact) for fact in facts], header=False),
        f"<h2>Held-out rows, {_safe(report['evaluated'])}</h2>",
        _table(columns, scores, numbers_from=1),
        "<h2>The same questions, before and after</h2>",
        _table(["question", "before", "after"], answers),
    ]
    head = f"<meta charset='utf-8'><title>{_safe(recipe.name)}: {verdict}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def preferred(score: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """Return a score's cell of the column on preferences, which is there where the held-out rows are pairs."""
    if "preference_accuracy" not in report["scores"]["candidate"]:
        return []
    return [f"{score['preference_accuracy']:.1%} of {score['pairs']}" if "pairs" in score else "-"]


def cost_in_words(cost: dict[str, Any]) -> str:
    """Return what was quoted and what the node has cost up to the evaluation."""
    price = f"${cost['price']:g}/h, price of {cost['priced_on']}" if cost["price"] is not None else "price not known"
    so_far = f"${cost['so_far']:.2f}" if cost["so_far"] is not None else f"{cost['hours']:.2f} h"
    quoted = f"${cost['quoted']:.2f} quoted for the run" if cost["quoted"] is not None else "no quote"
    return f"{so_far} up to here, {quoted} ({cost['instance_type']} {cost['capacity']}, {price})"


def _table(columns: list[str], rows: list[list[str]], *, header: bool = True, numbers_from: int = 99) -> str:
    def cell(tag: str, number: int, text: str) -> str:
        kind = ' class="number"' if number >= numbers_from else ""
        return f"<{tag}{kind}>{_safe(text)}</{tag}>"

    lines = [("td", row) for row in rows]
    if header:
        lines.insert(0, ("th", columns))
    return (
        "<table>"
        + "".join(
            f"<tr>{''.join(cell(tag, number, text) for number, text in enumerate(row))}</tr>" for tag, row in lines
        )
        + "</table>"
    )


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
