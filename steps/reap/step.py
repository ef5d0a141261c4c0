"""The reap step: gives back the nodes of runs that are gone, have ended, or are over their limits.

It covers for exit handlers that never ran: those of workflows that were deleted, or whose controller was lost.
"""

import time
from typing import Any

from hera.workflows.io import Input, Output

from steps.common.kubernetes import client, workflow_objects
from steps.common.kubernetes.cluster_objects import created_at
from steps.common.kubernetes.resource import Resource
from steps.common.nodes import node_request
from steps.common.nodes.ledger import OVER_LIMITS
from steps.common.nodes.node_request import NAMESPACE_LABEL, RUN_LABEL
from steps.common.nodes.termination import (
    COMPONENT_LABEL,
    HOLDER,
    TERMINATION_SECONDS,
    delete_holders,
    wait_until_terminated,
)
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import duration, say
from steps.reap.stranded import stranded

GRACE_SECONDS = 120.0  # for a run's own exit handler, and for a run that has just started to become visible


class ReapInput(Input):
    """Nothing."""


class ReapOutput(Output):
    """What was done."""

    reaped: str


@step
def reap(input: ReapInput) -> ReapOutput:
    """Check everything that this namespace's runs have bought, hold, or wait for.

    Raises:
        UserError: a node has not terminated; everything else has been checked.
    """
    space, kinds, now = cluster_settings.namespace(), node_request.request_kinds(), time.time()
    actions: list[str] = []
    deleted: list[tuple[Resource, str]] = []
    for kind in kinds:
        for item in kind.list(f"{NAMESPACE_LABEL}={space}"):
            run, name = item["metadata"]["labels"][RUN_LABEL], item["metadata"]["name"]
            if why := why_unneeded(created_at(item), workflow_objects.find(run, space), now):
                delete_holders(run, space)
                deleted.append((kind, name))
                kind.delete_item(item)
                actions.append(f"{run}: {why}")
            elif over := _over_limits(kind, name, now):
                workflow_objects.stop(run, space, over)
                actions.append(f"{run}: {over}")
    actions += _delete_unneeded_holders(space, now)
    for run, why in stranded(space, kinds, now - GRACE_SECONDS).items():
        workflow_objects.stop(run, space, why)
        actions.append(f"{run}: {why}")
    for line in actions:
        say(line)
    # Waiting comes last: a node that does not terminate must not delay the deletion of another.
    stuck = []
    for kind, name in deleted:
        try:
            wait_until_terminated(kind, name)
        except UserError as error:
            stuck.append(str(error))
    if stuck:
        raise UserError("; ".join(stuck))
    return ReapOutput(reaped="; ".join(actions) or "nothing")


def why_unneeded(since: float, workflow: dict[str, Any] | None, now: float) -> str:
    """Return why nobody needs a run's nodes any more; empty if somebody does.

    Args:
        since: when they were requested, in seconds since 1970.
        workflow: the run's, if it exists.
        now: seconds since 1970.
    """
    age = now - since
    if workflow is None:
        return f"its run is gone, {duration(age)} after it requested a node" if age > GRACE_SECONDS else ""
    ended = workflow_objects.ended_at(workflow)
    if ended is not None:
        past = f"its run ended {duration(now - ended)} ago ({workflow['status']['phase']})"
        return past if now - ended > GRACE_SECONDS else ""
    ended = workflow_objects.main_ended_at(workflow)
    if ended is not None and now - ended > GRACE_SECONDS + TERMINATION_SECONDS:
        return f"its run ended {duration(now - ended)} ago, but its exit handler has not"
    return ""


def _over_limits(kind: Resource, name: str, now: float) -> str:
    """Return which limit a run has exceeded without stopping by itself; empty if none."""
    purchase = node_request.record_nodes(kind, name, now)
    until = purchase.until(now) if purchase else 0.0
    if not purchase or not until or now <= until + GRACE_SECONDS:
        return ""
    cost = purchase.cost(now)
    limits = f"max_cost {purchase.max_cost:g}, max_hours {purchase.max_hours:g}"
    return f"{OVER_LIMITS} ({limits}; 0: none) with {cost.in_words() if cost else 'nothing'}; its checkpoint is kept"


def _delete_unneeded_holders(space: str, now: float) -> list[str]:
    """Delete the holder pods of runs that are gone: on existing nodes nothing else of a run remains."""
    pods = client.pods(space, f"{COMPONENT_LABEL}={HOLDER}")
    created = {pod.metadata.labels[RUN_LABEL]: pod.metadata.creation_timestamp.timestamp() for pod in pods}
    actions = []
    for run, since in created.items():
        if why := why_unneeded(since, workflow_objects.find(run, space), now):
            delete_holders(run, space)
            actions.append(f"{run}: {why}")
    return actions
