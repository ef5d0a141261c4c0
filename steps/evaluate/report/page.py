"""The report as one self-contained page of HTML: an artifact of the run in MLflow, and in Argo if it stores artifacts."""

import html
import math
import os
from pathlib import Path

from steps.common.handover.report import EvaluationReport
from steps.common.handover.report_difference import Difference, signed
from steps.common.handover.report_parts import CostSoFar, ModelRole, SamplePiece, TuningReport
from steps.common.handover.resolved import Resolved
from steps.common.runtime.progress import duration
from steps.evaluate.report.figures import figures

# Argo fails a run that has an output artifact but no artifact repository, so the file is written only if the namespace's
# settings say that there is a repository.
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
UNKNOWN = "unknown"


def leave_for_argo(page: str) -> None:
    """Write the page to where Argo picks it up, if the namespace's settings allow it."""
    if os.environ.get(SETTING) == "true":
        PAGE.write_text(page, encoding="utf-8")


def render(report: EvaluationReport, resolved: Resolved) -> str:
    """Return the report as a page of HTML."""
    recipe = resolved.recipe
    verdict = "passed" if report.passed else "refused"
    answers = [[answer.asked, answer.wanted, answer.base, answer.candidate] for answer in report.answers]
    parts = [
        f"<h1>{_safe(recipe.name)}</h1>",
        f'<p class="{verdict}"><strong>{verdict}</strong></p>',
        f"<ul>{''.join(f'<li>{_safe(reason)}</li>' for reason in report.reasons)}</ul>",
        _table(["", ""], _facts(report, resolved), header=False),
        f"<h2>Held-out rows, {_safe(report.evaluated)}</h2>",
        _table(_columns(report), _scores(report), numbers_from=1),
        _tasks(report),
        *figures(report),
        "<h2>A training row: bold text is learned, grey text is only read</h2>",
        _sample(report.sample),
        "<h2>The same questions, before and after</h2>",
        _table(["question", "answer in the data", "before", "after"], answers),
    ]
    head = f"<meta charset='utf-8'><title>{_safe(recipe.name)}: {verdict}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _facts(report: EvaluationReport, resolved: Resolved) -> list[list[str]]:
    recipe, quote = resolved.recipe, report.quote
    minutes = ", ".join(f"{leg} {value:g}" for leg, value in quote.minutes.items() if value)
    facts = [
        ("run", resolved.run),
        ("base model", f"{resolved.model.uri} ({resolved.model.licence})"),
        ("training data", f"sha256 {resolved.data.train_sha256}"),
    ]
    if len(resolved.data.train) > 1:
        sources = report.data.sources if report.data and report.data.sources else resolved.data.train
        facts.append(("sources", "; ".join(source.in_words for source in sources)))
    if report.data:
        data = report.data
        facts.append(
            (
                "rows",
                f"{data.train_rows} for training, {data.validation_rows} held out, {data.bad_rows} bad and left out",
            )
        )
        if data.turns_in_words:
            facts.append(("turns", data.turns_in_words))
        if data.ignored_in_words:
            facts.append(("columns", data.ignored_in_words))
        facts += [("warning", warning) for warning in data.warnings]
    epochs = f"{recipe.tune.epochs:g} epoch{'s' if recipe.tune.epochs != 1 else ''}"
    settings = f"{recipe.tune.objective}, {recipe.tune.method}, rank {recipe.tune.rank}, {epochs}"
    facts.append(("tuning", settings))
    if report.tuning:
        facts.append(("tuned", _tuning_in_words(report.tuning)))
    steps = f"{quote.steps} step{'s' if quote.steps != 1 else ''}"
    facts.append(("quote", f"{quote.tokens} tokens in {steps} on {quote.on}; minutes: {minutes}"))
    if report.cost:
        facts.append(("cost", cost_in_words(report.cost)))
    facts.append(("code", resolved.code_version))
    return [list(fact) for fact in facts]


def _tuning_in_words(tuning: TuningReport) -> str:
    parts = [f"{tuning.steps} steps in {duration(tuning.seconds)}", f"{tuning.tokens_a_second:.0f} tokens/s"]
    if tuning.mfu is not None:
        parts.append(f"{tuning.mfu:.0%} of the device's peak (MFU)")
    if tuning.micro_batch_tokens:
        parts.append(f"micro-batches of {tuning.micro_batch_tokens:.0f} tokens")
    parts.append(f"loss {tuning.first_loss:.2f} to {tuning.last_loss:.2f}")
    return ", ".join(parts)


def _columns(report: EvaluationReport) -> list[str]:
    pairs = ["pairs preferred"] if report.has_preferences else []
    return ["model", "loss", "perplexity", "token accuracy", "general ability", *pairs]


def _scores(report: EvaluationReport) -> list[list[str]]:
    general = report.general.accuracy if report.general else {}
    return [
        [
            f"version {report.champion_version}, the champion" if role == "champion" else role,
            f"{scores.loss:.3f}",
            f"{scores.perplexity:.2f}",
            f"{scores.accuracy:.1%}",
            f"{general[role]:.1%}" if role in general else "",
            *([scores.preference_in_words] if report.has_preferences else []),
        ]
        for role, scores in report.scores.items()
    ]


def _tasks(report: EvaluationReport) -> str:
    if not report.tasks:
        return ""
    roles: tuple[ModelRole, ...] = ("base", "champion", "candidate")
    rows = []
    for task in report.tasks:
        means = [f"{task.means[role]:.1%}" if role in task.means else "" for role in roles]
        at_least = "" if task.at_least is None else f"{task.at_least:.1%}"
        rows.append([task.name, *means, at_least, _gain_in_words(task.base)])
    columns = ["task", *roles, "at least", "gain over the base"]
    return "<h2>Tasks</h2>" + _table(columns, rows, numbers_from=1)


def _gain_in_words(gain: Difference) -> str:
    if math.isfinite(gain.low) and math.isfinite(gain.high):
        return gain.in_words()
    return signed(gain.value) if math.isfinite(gain.value) else UNKNOWN


def _sample(pieces: list[SamplePiece]) -> str:
    marked = (
        f"<b>{_safe(piece.text)}</b>" if piece.learnt else f"<span>{_safe(piece.text)}</span>" for piece in pieces
    )
    return f'<pre class="sample">{"".join(marked)}</pre>'


def cost_in_words(cost: CostSoFar) -> str:
    """Return what the node has cost up to the evaluation, and what was quoted."""
    price = f"${cost.price:g}/h on {cost.priced_on}" if cost.price is not None else "price unknown"
    so_far = f"${cost.so_far:.2f}" if cost.so_far is not None else f"{cost.hours:.2f} h"
    quoted = f"${cost.quoted:.2f} quoted for the run" if cost.quoted is not None else "no quote"
    return f"{so_far} so far, {quoted} ({cost.instance_type} {cost.capacity}, {price})"


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
