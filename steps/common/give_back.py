"""Gives back what a run has bought: by its exit handler, and by the reaper where that never came."""

import time

from steps.common import bought, kubernetes
from steps.common.bought import Bought
from steps.common.errors import UserError
from steps.common.kinds import CLAIMS, POOL_LABEL, POOLS, Kind
from steps.common.progress import Progress

GONE_SECONDS = 900.0  # for Karpenter to drain and end the machines
POLL_SECONDS = 2.0
COMPONENT, HOLDER = "app.kubernetes.io/component", "holder"


def give_back(run: str, namespace: str) -> Bought | None:
    """Delete what asks for the run's nodes and wait until they are gone; nothing, where nothing was bought.

    Returns:
        What was bought and has cost, or None.

    Raises:
        UserError: the account may not, or Karpenter has not ended the machines in a quarter of an hour.
    """
    delete_holders(run, namespace)
    kind = bought.kind()
    item = kind.get(bought.name_of(run, namespace)) if kind else None
    if kind is None or item is None:
        return None
    found, name = bought.read(item, time.time()), item["metadata"]["name"]
    kind.delete(name)
    wait_until_gone(kind, name)
    return found


def wait_until_gone(kind: Kind, name: str) -> None:
    """Wait until the machines of a run's object, which was deleted, have ended, where Karpenter tells of them.

    Raises:
        UserError: they have not in a quarter of an hour.
    """
    if kind != POOLS:
        return  # GKE's autoscaler takes an empty node back by itself, some ten minutes later
    progress, started = Progress(0, "s, waiting for the machines to end"), time.monotonic()
    while left := CLAIMS.list(f"{POOL_LABEL}={name}"):
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
    from kubernetes.client import ApiException

    core, selector = kubernetes.core(), f"{bought.RUN_LABEL}={run},{COMPONENT}={HOLDER}"
    with kubernetes.in_one_line():
        names = [pod.metadata.name for pod in core.list_namespaced_pod(namespace, label_selector=selector).items]
        for name in names:
            try:
                if name != but:
                    core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)
            except ApiException as error:
                if error.status != 404:
                    raise
