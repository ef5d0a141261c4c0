"""The reap step: machines of runs that are gone, or have ended, or are over their limits, are given back.

It is the lease behind the exit handler: a workflow that was deleted, or whose controller was lost, gives nothing back.
"""

import time
from typing import Any

from hera.workflows.io import Input, Output

from steps.common.kubernetes import client, workflow_objects
from steps.common.kubernetes.cluster_objects import created_at
from steps.common.kubernetes.errors import api_errors
from steps.common.kubernetes.resource import Resource
from steps.common.nodes import node_request
from steps.common.nodes.give_back import COMPONENT, GONE_SECONDS, HOLDER, delete_holders, wait_until_gone
from steps.common.nodes.node_request import NAMESPACE_LABEL, RUN_LABEL
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import duration, say
from steps.reap.stranded import stranded

GRACE_SECONDS = 120.0  # for a run's own exit handler, and for a run to be seen that has just begun


class ReapInput(Input):
    """Nothing: it looks for itself."""


class ReapOutput(Output):
    """What was done."""

    reaped: str


@step
def reap(input: ReapInput) -> ReapOutput:
    """Look at everything that runs of this namespace have bought, hold, or wait for.

    Raises:
        UserError: a machine has not ended; all others have been looked at.
    """
    space, kinds, now = cluster_settings.namespace(), node_request.kinds(), time.time()
    told: list[str] = []
    leaving: list[tuple[Resource, str]] = []
    for kind in kinds:
        for item in kind.list(f"{NAMESPACE_LABEL}={space}"):
            run, name = item["metadata"]["labels"][RUN_LABEL], item["metadata"]["name"]
            if why := lost(created_at(item), workflow_objects.find(run, space), now):
                delete_holders(run, space)
                leaving.append((kind, name))
                kind.delete(name)
                told.append(f"{run}: {why}")
            elif over := _over(kind, name, now):
                workflow_objects.stop(run, space, over)
                told.append(f"{run}: {over}")
    told += _free_of_holders(space, now)
    for run, why in stranded(space, kinds, now - GRACE_SECONDS).items():
        workflow_objects.stop(run, space, why)
        told.append(f"{run}: {why}")
    for line in told:
        say(line)
    # Only now is anything waited for: a machine that does not end keeps no other.
    stuck = []
    for kind, name in leaving:
        try:
            wait_until_gone(kind, name)
        except UserError as error:
            stuck.append(str(error))
    if stuck:
        raise UserError("; ".join(stuck))
    return ReapOutput(reaped="; ".join(told) or "nothing")


def lost(since: float, workflow: dict[str, Any] | None, now: float) -> str:
    """Return why nobody needs what a run has asked for any more; empty where somebody does.

    Args:
        since: when it asked, in seconds since 1970.
        workflow: the run's, where there is one.
        now: seconds since 1970.
    """
    age = now - since
    if workflow is None:
        return f"its run is gone, {duration(age)} after it asked for machines" if age > GRACE_SECONDS else ""
    ended = workflow_objects.ended_at(workflow)
    if ended is not None:
        past = f"its run ended {duration(now - ended)} ago ({workflow['status']['phase']})"
        return past if now - ended > GRACE_SECONDS else ""
    ended = workflow_objects.main_ended_at(workflow)
    if ended is not None and now - ended > GRACE_SECONDS + GONE_SECONDS:
        return f"its run ended {duration(now - ended)} ago, and its exit handler has not"
    return ""


def _over(kind: Resource, name: str, now: float) -> str:
    """Return which limit a run is past that has had time to stop by itself; empty where it is within."""
    purchase = node_request.noted(kind, name, now)
    until = purchase.until(now) if purchase else 0.0
    if not purchase or not until or now <= until + GRACE_SECONDS:
        return ""
    paid = purchase.paid(now)
    limits = f"max_cost {purchase.max_cost:g}, max_hours {purchase.max_hours:g}"
    return f"it is over its limits ({limits}; 0: none) with {paid.in_words() if paid else 'nothing'}; its checkpoint is kept"


def _free_of_holders(space: str, now: float) -> list[str]:
    """Delete the holder pods of runs that are gone: on nodes that are there already nothing else of a run stays."""
    with api_errors():
        pods = client.core().list_namespaced_pod(space, label_selector=f"{COMPONENT}={HOLDER}").items
    told = []
    for run, since in {
        pod.metadata.labels[RUN_LABEL]: pod.metadata.creation_timestamp.timestamp() for pod in pods
    }.items():
        if why := lost(since, workflow_objects.find(run, space), now):
            delete_holders(run, space)
            told.append(f"{run}: {why}")
    return told
