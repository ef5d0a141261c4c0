"""Gives back what a run has bought: after its evaluation, by its exit handler, and by the reaper where neither came."""

import time
from functools import partial

from steps.common.kubernetes import client
from steps.common.kubernetes.cluster_objects import NODE_CLAIMS, NODE_POOL_LABEL, NODE_POOLS
from steps.common.kubernetes.errors import api_errors, none_if_absent
from steps.common.kubernetes.resource import Resource
from steps.common.nodes import node_request
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import Progress

GONE_SECONDS = 900.0  # for Karpenter to drain and end the machines
POLL_SECONDS = 2.0
COMPONENT, HOLDER = "app.kubernetes.io/component", "holder"


def wait_until_gone(kind: Resource, name: str) -> None:
    """Wait until the machines of a run's object, which was deleted, have ended, where Karpenter tells of them.

    Raises:
        UserError: they have not in a quarter of an hour.
    """
    if kind != NODE_POOLS:
        return  # GKE's autoscaler takes an empty node back by itself, some ten minutes later
    progress, started = Progress(0, "s, waiting for the machines to end"), time.monotonic()
    while left := NODE_CLAIMS.list(f"{NODE_POOL_LABEL}={name}"):
        waited = time.monotonic() - started
        if waited > GONE_SECONDS:
            raise UserError(
                f"{left[0]['metadata']['name']}: Karpenter has not ended the machine in {GONE_SECONDS / 60:.0f} min, and it "
                "is paid for; kubectl describe nodeclaim tells what it waits for"
            )
        progress.update(round(waited))
        time.sleep(POLL_SECONDS)


def delete_holders(run: str, namespace: str, but: str = "") -> None:
    """Delete the run's holder pods, all but one where that is named."""
    core, selector = client.core(), f"{node_request.RUN_LABEL}={run},{COMPONENT}={HOLDER}"
    with api_errors():
        names = [pod.metadata.name for pod in core.list_namespaced_pod(namespace, label_selector=selector).items]
    for name in names:
        if name != but:
            none_if_absent(partial(core.delete_namespaced_pod, name, namespace, grace_period_seconds=0))
