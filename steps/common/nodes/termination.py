"""Gives nodes back: after a run's evaluation, in its exit handler, and by the reaper if neither of them ran."""

import time
from functools import partial

from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import none_if_absent
from steps.common.kubernetes.cluster_objects import NODE_CLAIMS, NODE_POOL_LABEL, NODE_POOLS
from steps.common.kubernetes.resource import Resource
from steps.common.nodes import node_request
from steps.common.runtime.errors import UserError
from steps.common.runtime.waiting import WaitingLine

TERMINATION_SECONDS = 900.0  # for Karpenter to drain and terminate the nodes
POLL_SECONDS = 2.0
COMPONENT_LABEL, HOLDER = "app.kubernetes.io/component", "holder"


def wait_until_terminated(kind: Resource, name: str) -> None:
    """Wait until the nodes of a run's deleted request have terminated, if Karpenter reports them.

    Raises:
        UserError: they have not terminated within 15 minutes.
    """
    if kind != NODE_POOLS:
        return  # GKE's autoscaler removes an empty node by itself, about ten minutes later
    line, started = WaitingLine(), time.monotonic()
    while left := NODE_CLAIMS.list(f"{NODE_POOL_LABEL}={name}"):
        if time.monotonic() - started > TERMINATION_SECONDS:
            claim = left[0]["metadata"]["name"]
            raise UserError(
                f"{claim}: Karpenter has not terminated the node within {TERMINATION_SECONDS / 60:.0f} min, and it is still "
                f"being paid for; kubectl describe nodeclaim {claim} shows what Karpenter is waiting for"
            )
        line.report("nodes to terminate", f"{len(left)} left")
        time.sleep(POLL_SECONDS)


def delete_holders(run: str, namespace: str, but: str = "") -> None:
    """Delete the run's holder pods, except the one that `but` names."""
    core, selector = client.core(), f"{node_request.RUN_LABEL}={run},{COMPONENT_LABEL}={HOLDER}"
    for name in [pod.metadata.name for pod in client.pods(namespace, selector)]:
        if name != but:
            none_if_absent(partial(core.delete_namespaced_pod, name, namespace, grace_period_seconds=0))
