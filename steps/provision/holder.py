"""The holder: a pod that asks for what the run will need, so that a node is brought for it, and does nothing else."""

import time
from typing import Any

from steps.common import cluster, kubernetes
from steps.common.bought import RUN_LABEL
from steps.common.give_back import COMPONENT, HOLDER, delete_holders
from steps.common.gpu_nodes import GPU
from steps.common.progress import Progress
from steps.common.resolved import Rung
from steps.provision.attempts import Attempt, Stage

POLL_SECONDS = 1.0
IMAGE = "registry.k8s.io/pause:3.10"


def create(name: str, run: str, rung: Rung, where: dict[str, Any]) -> None:
    """Create the pod, the only one of its run; where it is there already, from a process that was killed, it stays.

    Args:
        name: of the pod.
        run: whose.
        rung: what it asks for.
        where: nodeSelector, affinity, tolerations and the rest of its spec.

    Raises:
        UserError: the account may not, or the namespace's quota is full.
    """
    from kubernetes.client import ApiException

    delete_holders(run, cluster.namespace(), but=name)
    gpus = {GPU: str(rung.gpus)}
    asked = {"memory": str(rung.host_bytes), "cpu": "1", **gpus}
    body = {
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/part-of": "fineline", COMPONENT: HOLDER, RUN_LABEL: run},
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65534,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": IMAGE,
                    "resources": {"requests": asked, "limits": gpus},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
            **where,
        },
    }
    with kubernetes.in_one_line():
        try:
            kubernetes.core().create_namespaced_pod(cluster.namespace(), body)
        except ApiException as error:
            if error.status != 409:
                raise


def wait(name: str, attempt: Attempt, what_for: str, seconds: float) -> str:
    """Wait until the pod has a node, and return that; empty where it has none in time. The attempt is kept up to date."""
    progress, started = Progress(0, f"s, waiting for {what_for}"), time.time()
    while True:
        attempt.seconds = time.time() - started
        if node := node_of(name):
            attempt.stage = Stage.READY
            return node
        if attempt.seconds > seconds:
            return ""
        progress.update(round(attempt.seconds))
        time.sleep(POLL_SECONDS)


def node_of(name: str) -> str | None:
    """Return the node that the pod was given; empty while it waits, None where somebody has deleted it."""
    pod = _read(name)
    return str(pod.spec.node_name or "") if pod else None


def unmet(name: str) -> str:
    """Return what the scheduler says of why the pod waits; empty where it says nothing."""
    pod = _read(name)
    conditions = (pod.status.conditions or []) if pod else []
    return next((one.message for one in conditions if one.status != "True" and one.message), "")


def said(name: str) -> list[Any]:
    """Return the Events about the pod."""
    with kubernetes.in_one_line():
        selector = f"involvedObject.kind=Pod,involvedObject.name={name}"
        return list(kubernetes.core().list_namespaced_event(cluster.namespace(), field_selector=selector).items)


def _read(name: str) -> Any:
    """Return the pod, or None."""
    from kubernetes.client import ApiException

    with kubernetes.in_one_line():
        try:
            return kubernetes.core().read_namespaced_pod(name, cluster.namespace())
        except ApiException as error:
            if error.status == 404:
                return None
            raise
