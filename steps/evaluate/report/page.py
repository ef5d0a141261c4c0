"""The report of a run as one page of HTML that loads nothing: MLflow keeps it, and Argo where it keeps artifacts."""

import html
import os
from pathlib import Path
from typing import Any

from steps.common.handover.resolved import Resolved
from steps.common.runtime.progress import duration
from steps.evaluate.gate.difference import Difference, signed
from steps.evaluate.report.figures import figures

# Argo ends a run with an error when there is an output artifact and no repository for it; so the file is written for
# Argo only where the namespace's settings say that there is one.
SETTING = "FINELINE_ARTIFACTS"
PAGE = Path("/tmp/fineline-report.html")
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0;width:100%}"
    "td,th{border:1px solid #ccc;padding:.4rem .6rem;text-align:left;vertical-align:top}"
    "td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}.passed{color:#176b2c}.refused{color:#a11}"
    "figure{margin:1.5rem 0}figcaption{font-weight:600}svg{max-width:100%;height:auto}"
    "pre.sample{white-space:pre-wrap;border:1px solid #ccc;padding:.6rem}.sample span{color:#888}"
)
UNKNOWN = "not known"


def for_argo(page: str) -> None:
    """Leave the page where Argo takes it from, where the settings say that it may."""
    if os.environ.get(SETTING) == "true":
        PAGE.write_text(page, encoding="utf-8")


def render(report: dict[str, Any], resolved: Resolved) -> str:
    """Return the page of an evaluation's report."""
    recipe = resolved.recipe
    verdict = "passed" if report["passed"] else "refused"
    answers = [[a["asked"], a["wanted"], a["base"], a["candidate"]] for a in report["answers"]]
    parts = [
        f"<h1>{_safe(recipe.name)}</h1>",
        f'<p class="{verdict}"><strong>{verdict}</strong></p>',
        f"<ul>{''.join(f'<li>{_safe(reason)}</li>' for reason in report['reasons'])}</ul>",
        _table(["", ""], _facts(report, resolved), header=False),
        f"<h2>Held-out rows, {_safe(report['evaluated'])}</h2>",
        _table(_columns(report), _scores(report), numbers_from=1),
        _tasks(report),
        *figures(report),
        "<h2>A training row: what is read is grey, what is learnt is bold</h2>",
        _sample(report["sample"]),
        "<h2>The same questions, before and after</h2>",
        _table(["question", "in the data", "before", "after"], answers),
    ]
    head = f"<meta charset='utf-8'><title>{_safe(recipe.name)}: {verdict}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _facts(report: dict[str, Any], resolved: Resolved) -> list[list[str]]:
    recipe, quote, tuning, data = resolved.recipe, report["quote"], report["tuning"], report["data"]
    minutes = ", ".join(f"{leg} {value:g}" for leg, value in quote["minutes"].items() if value)
    facts = [
        ("run", resolved.run),
        ("base model", f"{resolved.model.uri} ({resolved.model.licence})"),
        ("training rows", f"sha256 {resolved.data.train.sha256}"),
        (
            "tuning",
            f"{recipe.tune.objective}, {recipe.tune.method}, rank {recipe.tune.rank}, {recipe.tune.epochs:g} epochs",
        ),
        ("quote", f"{quote['tokens']} tokens in {quote['steps']} steps on {quote['on']}; minutes: {minutes}"),
        ("code", resolved.code_version),
    ]
    if tuning.get("steps"):
        facts.insert(4, ("tuned", _tuned_in_words(tuning)))
    if data.get("train_rows"):
        held = data["validation_rows"]
        facts.insert(3, ("rows", f"{data['train_rows']} to learn from, {held} held out, {data['bad_rows']} bad"))
    if report.get("cost"):
        facts.insert(-1, ("cost", cost_in_words(report["cost"])))
    return [list(fact) for fact in facts]


def _tuned_in_words(tuning: dict[str, Any]) -> str:
    parts = [f"{tuning['steps']} steps in {duration(tuning['seconds'])}"]
    parts.append(f"{tuning['tokens_a_second']:.0f} tokens/s")
    if tuning.get("mfu") is not None:
        parts.append(f"{tuning['mfu']:.0%} of the device's peak (MFU)")
    if tuning.get("micro_batch_tokens"):
        parts.append(f"micro-batches of {tuning['micro_batch_tokens']:.0f} tokens")
    parts.append(f"loss {tuning['first_loss']:.2f} to {tuning['last_loss']:.2f}")
    return ", ".join(parts)


def _columns(report: dict[str, Any]) -> list[str]:
    pairs = ["pairs preferred"] if preferred({}, report) else []
    return ["model", "loss", "perplexity", "token accuracy", "general ability", *pairs]


def _scores(report: dict[str, Any]) -> list[list[str]]:
    general = (report["general"] or {"accuracy": {}})["accuracy"]
    return [
        [
            f"version {report['champion_version']}, the champion" if who == "champion" else who,
            f"{score['loss']:.3f}",
            f"{score['perplexity']:.2f}",
            f"{score['accuracy']:.1%}",
            f"{general[who]:.1%}" if who in general else "",
            *preferred(score, report),
        ]
        for who, score in report["scores"].items()
    ]


def _tasks(report: dict[str, Any]) -> str:
    if not report["tasks"]:
        return ""
    rows = []
    for task in report["tasks"]:
        means = [
            f"{task['means'][who]:.1%}" if who in task["means"] else "" for who in ("base", "champion", "candidate")
        ]
        asked = "" if task["at_least"] is None else f"{task['at_least']:.1%}"
        rows.append([task["name"], *means, asked, _gain_in_words(task["base"])])
    columns = ["task", "base", "champion", "candidate", "at least", "gain over the base"]
    return "<h2>Tasks</h2>" + _table(columns, rows, numbers_from=1)


def _gain_in_words(gain: dict[str, Any]) -> str:
    if gain["low"] is None or gain["high"] is None:
        return signed(gain["value"]) if gain["value"] is not None else UNKNOWN
    return Difference(**gain).in_words()


def _sample(pieces: list[dict[str, Any]]) -> str:
    marked = (
        f"<b>{_safe(piece['text'])}</b>" if piece["learnt"] else f"<span>{_safe(piece['text'])}</span>"
        for piece in pieces
    )
    return f'<pre class="sample">{"".join(marked)}</pre>'


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
