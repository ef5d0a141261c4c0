"""Tells whether the champion is still the one that a candidate was judged against."""

from typing import Any

from steps.common.handover.report import EvaluationReport
from steps.common.registry import versions
from steps.common.runtime.errors import RefusedError


def check_verdict(champion: Any | None, candidate: int, report: EvaluationReport) -> None:
    """Raise if a candidate's evaluation says nothing about today's champion.

    Args:
        champion: the registered version that is champion now; None: there is none.
        candidate: the candidate's version.
        report: of the candidate's evaluation.

    Raises:
        RefusedError: another version has become champion since.
    """
    now = int(champion.version) if champion else 0
    if now == candidate:
        return
    sha256 = champion.tags.get(versions.ADAPTER_SHA256, "") if champion else ""
    # Reports of earlier releases do not have the adapter's hash.
    same = not report.champion_sha256 or report.champion_sha256 == sha256
    if now == report.champion_version and same:
        return
    before = f"version {report.champion_version}" if report.champion_version else "no champion"
    today = f"version {now}" if now else "none"
    again = "" if now != report.champion_version else ", which a new registry has numbered anew"
    raise RefusedError(
        f"the candidate was judged against {before}, and the champion is now {today}{again}; start the run again: its "
        "training is cached"
    )
