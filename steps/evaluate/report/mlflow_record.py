"""Logs an evaluation to the run in MLflow: the scores, the verdict, and the report as files."""

import math
import re
from pathlib import Path

from steps.common.handover.made_from import made_from
from steps.common.handover.report import EvaluationReport
from steps.common.handover.resolved import Resolved
from steps.common.registry import tracking, versions
from steps.evaluate.gate.gate import Verdict

COUNTS = ("tokens", "pairs")  # not worth a curve


def log_evaluation(resolved: Resolved, report: EvaluationReport, verdict: Verdict, file: Path) -> None:
    """Log the scores and the verdict, and the report with its page; nothing if the run is not tracked.

    An MLflow that does not answer changes no verdict. A refused run that could not be marked as such may be repeated by the
    next retraining.
    """
    run = resolved.tracking.run_id
    if not run:
        return
    with tracking.telling("the evaluation"):
        store = tracking.client(resolved.tracking.uri, tracking.QUICK)
        store.set_tag(run, versions.MADE_FROM, made_from(resolved))
        if not verdict.passed:
            store.set_tag(run, versions.REFUSED_AGAINST, str(report.champion_version))
        store.set_tag(run, "fineline.verdict", verdict.in_words())
        for name, value in metrics_of(report).items():
            store.log_metric(run, name, value)
        store.log_artifact(run, str(file))
        store.log_artifact(run, str(file.with_suffix(".html")))


def metrics_of(report: EvaluationReport) -> dict[str, float]:
    """Return the report's numbers by their names in MLflow."""
    found = {
        f"{role}/{name}": value
        for role, scores in report.scores.items()
        for name, value in scores.metrics().items()
        if name not in COUNTS
    }
    for role, gain in (("base", report.gains.base), ("champion", report.gains.champion)):
        if gain:
            ends = {"value": gain.value, "low": gain.low, "high": gain.high}
            found |= {f"gain_over_{role}/{name}": end for name, end in ends.items() if math.isfinite(end)}
    if report.general:
        found |= {f"{role}/general_accuracy": share for role, share in report.general.accuracy.items()}
    for task in report.tasks:
        # MLflow allows letters, digits and few other characters in a metric's name.
        name = re.sub(r"[^\w. -]", "_", task.name)
        found |= {f"{role}/{name}": mean for role, mean in task.means.items()}
    return found
