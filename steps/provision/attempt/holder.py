"""The holder: a pod that asks for what the run will need, so that a node is brought for it, and does nothing else."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from steps.common.handover.resolved import Rung
from steps.common.kubernetes import client
from steps.common.kubernetes.errors import ConflictError, api_errors, none_if_absent
from steps.common.nodes.give_back import COMPONENT, HOLDER, delete_holders
from steps.common.nodes.gpu_nodes import GPU
from steps.common.nodes.node_request import RUN_LABEL
from steps.common.runtime import cluster_settings
from steps.common.runtime.progress import Progress
from steps.provision.attempt.attempts import Attempt, Stage

POLL_SECONDS = 1.0
IMAGE = "registry.k8s.io/pause:3.10"
# GKE's autoscaler takes no node away on which such a pod is.
KEEP = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}


@dataclass(frozen=True)
class Holder:
    """The pod, the only one of its run."""

    name: str
    run: str
    gpus: int
    host_bytes: int
    where: dict[str, Any]  # nodeSelector, affinity, tolerations and the rest of its spec

    @classmethod
    def of(cls, name: str, run: str, rung: Rung, where: dict[str, Any]) -> "Holder":
        """Return one that asks for what the pods of a run ask for on a rung."""
        return cls(name, run, rung.gpus, rung.host_bytes, where)

    def create(self) -> None:
        """Create the pod; where it is there already, from a process that was killed, it stays.

        Raises:
            UserError: the account may not, or the namespace's quota is full.
        """
        delete_holders(self.run, cluster_settings.namespace(), but=self.name)
        with suppress(ConflictError), api_errors():
            client.core().create_namespaced_pod(cluster_settings.namespace(), self._body())

    def node(self) -> str | None:
        """Return the node that the pod was given; empty while it waits, None where somebody has deleted it."""
        pod = self._read()
        return str(pod.spec.node_name or "") if pod else None

    def unmet(self) -> str:
        """Return what the scheduler says of why the pod waits; empty where it says nothing."""
        pod = self._read()
        conditions = (pod.status.conditions or []) if pod else []
        return next((one.message for one in conditions if one.status != "True" and one.message), "")

    def said(self) -> list[Any]:
        """Return the Events about the pod; not those about an earlier one of its name, which are kept for an hour."""
        pod = self._read()
        if pod is None:
            return []
        with api_errors():
            selector = f"involvedObject.kind=Pod,involvedObject.uid={pod.metadata.uid}"
            return list(
                client.core().list_namespaced_event(cluster_settings.namespace(), field_selector=selector).items
            )

    def wait(self, attempt: Attempt, what_for: str, seconds: float, each: Callable[[], None] | None = None) -> str:
        """Wait until the pod has a node, and return that; empty where it has none in time.

        Args:
            attempt: is kept up to date.
            what_for: in words.
            seconds: how long.
            each: is called every second.
        """
        progress, started = Progress(0, f"s, waiting for {what_for}"), time.time()
        while True:
            attempt.seconds = time.time() - started
            node = self.node()
            if node:
                attempt.stage = Stage.READY
                return node
            if node is None:
                self.create()  # somebody has deleted it
            if each:
                each()
            if attempt.seconds > seconds:
                return ""
            progress.update(round(attempt.seconds))
            time.sleep(POLL_SECONDS)

    def _read(self) -> Any:
        """Return the pod, or None."""
        return none_if_absent(lambda: client.core().read_namespaced_pod(self.name, cluster_settings.namespace()))

    def _body(self) -> dict[str, Any]:
        gpus = {GPU: str(self.gpus)} if self.gpus else {}
        asked = {"memory": str(self.host_bytes), "cpu": "1" if gpus else "10m", **gpus}
        return {
            "metadata": {
                "name": self.name,
                "labels": {"app.kubernetes.io/part-of": "fineline", COMPONENT: HOLDER, RUN_LABEL: self.run},
                "annotations": KEEP,
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
                **self.where,
            },
        }
