"""The reap step: machines of runs that are gone, or have ended, or are over their limits, are given back.

It is the lease behind the exit handler: a workflow that was deleted, or whose controller was lost, gives nothing back.
"""

import time
from datetime import datetime
from typing import Any

from hera.workflows.io import Input, Output

from steps.common import bought, cluster, kubernetes
from steps.common.errors import UserError
from steps.common.give_back import delete_holders, wait_until_gone
from steps.common.kinds import created
from steps.common.progress import duration, say
from steps.common.step import step

GRACE_SECONDS = 120.0  # for a run's own exit handler, and for a run to be seen that has just begun
ARGO, VERSION, PLURAL = "argoproj.io", "v1alpha1", "workflows"
ENDED = {"Succeeded", "Failed", "Error"}


class ReapInput(Input):
    """Nothing: it looks for itself."""


class ReapOutput(Output):
    """What was done."""

    reaped: str


@step
def reap(input: ReapInput) -> ReapOutput:  # noqa: A002 - the name is Argo's
    """Look at everything that runs of this namespace have bought.

    Raises:
        UserError: a machine has not ended; all others have been looked at.
    """
    space, now = cluster.namespace(), time.time()
    told, leaving, stuck = [], [], []
    kind = bought.kind()
    if kind is None:
        return ReapOutput(reaped="nothing")
    for item in kind.list(f"{bought.NAMESPACE_LABEL}={space}"):
        run = item["metadata"]["labels"][bought.RUN_LABEL]
        why = lost(item, _workflow(run, space), now)
        if why:
            delete_holders(run, space)
            leaving.append(item["metadata"]["name"])
            kind.delete(leaving[-1])
            told.append(f"{run}: {why}")
            say(f"{leaving[-1]} is given back: {told[-1]}")
        elif over(item, now):
            _stop(run, space)
            told.append(f"{run}: over its limit, told to stop")
            say(told[-1])
    # Only now is anything waited for: a machine that does not end keeps no other.
    for name in leaving:
        try:
            wait_until_gone(kind, name)
        except UserError as error:
            stuck.append(str(error))
    if stuck:
        raise UserError("; ".join(stuck))
    return ReapOutput(reaped="; ".join(told) or "nothing")


def lost(item: dict[str, Any], workflow: dict[str, Any] | None, now: float) -> str:
    """Return why nobody needs the machines any more; empty where somebody does.

    Args:
        item: what asks for them.
        workflow: the run's, where there is one.
        now: seconds since 1970.
    """
    age = now - created(item)
    if workflow is None:
        return f"its run is gone, {duration(age)} after it asked for machines" if age > GRACE_SECONDS else ""
    status = workflow.get("status", {})
    if status.get("phase") not in ENDED or not status.get("finishedAt"):
        return ""
    since = now - datetime.fromisoformat(status["finishedAt"]).timestamp()
    return f"its run ended {duration(since)} ago ({status['phase']})" if since > GRACE_SECONDS else ""


def over(item: dict[str, Any], now: float) -> bool:
    """Tell whether the run is past its max_cost or max_hours, with time for it to have stopped by itself."""
    until = float((item["metadata"].get("annotations") or {}).get(bought.UNTIL, "0"))
    return bool(until) and now > until + GRACE_SECONDS


def _workflow(run: str, space: str) -> dict[str, Any] | None:
    from kubernetes.client import ApiException

    with kubernetes.in_one_line():
        try:
            return dict(kubernetes.custom().get_namespaced_custom_object(ARGO, VERSION, space, PLURAL, run))
        except ApiException as error:
            if error.status == 404:
                return None
            raise


def _stop(run: str, space: str) -> None:
    """Let the Workflow end, its exit handler included."""
    with kubernetes.in_one_line():
        kubernetes.custom().patch_namespaced_custom_object(
            ARGO, VERSION, space, PLURAL, run, {"spec": {"shutdown": "Stop"}}
        )
