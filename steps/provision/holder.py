"""The holder: a pod that asks for what the run will need, so that a node is brought for it, and does nothing else."""

from typing import Any

from steps.common import cluster, kubernetes
from steps.common.bought import RUN_LABEL
from steps.common.give_back import delete_holders
from steps.common.resolved import Rung

COMPONENT = "app.kubernetes.io/component"
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
    gpus = {"nvidia.com/gpu": str(rung.gpus)}
    asked = {"memory": str(rung.host_bytes), "cpu": "1", **gpus}
    body = {
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/part-of": "fineline", COMPONENT: "holder", RUN_LABEL: run},
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


def node_of(name: str) -> str | None:
    """Return the node that the pod was given; empty while it waits, None where somebody has deleted it."""
    from kubernetes.client import ApiException

    with kubernetes.in_one_line():
        try:
            pod = kubernetes.core().read_namespaced_pod(name, cluster.namespace())
        except ApiException as error:
            if error.status == 404:
                return None
            raise
    return str(pod.spec.node_name or "")
