"""What MLflow is told of an evaluation: the scores, the verdict, and the report as files of the run."""

import re
from pathlib import Path
from typing import Any

from steps.common.handover.resolved import Resolved, made_from
from steps.common.registry import tracking, versions
from steps.evaluate.gate.gate import Verdict

PREFERENCE = ("preference_accuracy", "preference_margin", "preference_loss")


def record(resolved: Resolved, report: dict[str, Any], verdict: Verdict, file: Path) -> None:
    """Send the scores and the verdict, and the report with its page."""
    run = resolved.tracking.run_id
    if not run:
        return
    store = tracking.client(resolved.tracking.uri)
    for name, value in metrics_of(report).items():
        store.log_metric(run, name, value)
    store.set_tag(run, "fineline.verdict", verdict.in_words())
    store.set_tag(run, versions.MADE_FROM, made_from(resolved))
    if not verdict.passed:
        store.set_tag(run, versions.REFUSED_AGAINST, str(report["champion_version"]))
    store.log_artifact(run, str(file))
    store.log_artifact(run, str(file.with_suffix(".html")))


def metrics_of(report: dict[str, Any]) -> dict[str, float]:
    """Return the report's numbers by the names that MLflow shows."""
    found = {
        f"{who}/{name}": score[name]
        for who, score in report["scores"].items()
        for name in ("loss", "accuracy", "perplexity", *PREFERENCE)
        if name in score
    }
    for who, gain in report["gains"].items():
        found |= {f"gain_over_{who}/{part}": gain[part] for part in ("value", "low", "high")} if gain else {}
    if report["general"]:
        found |= {f"{who}/general_accuracy": share for who, share in report["general"]["accuracy"].items()}
    for task in report["tasks"]:
        # MLflow's names have letters, digits, and few signs besides.
        name = re.sub(r"[^\w. -]", "_", task["name"])
        found |= {f"{who}/{name}": mean for who, mean in task["means"].items()}
    return {name: value for name, value in found.items() if value is not None}
