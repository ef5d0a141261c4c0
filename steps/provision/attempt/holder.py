"""The holder: an idle pod that requests what the run will need, so that a node is added for it."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import ConflictError, api_errors, none_if_absent
from steps.common.kubernetes.wait import StartWatch
from steps.common.nodes.node_request import RUN_LABEL
from steps.common.nodes.pod_placement import Placement, resources, scheduling
from steps.common.nodes.termination import COMPONENT_LABEL, HOLDER, delete_holders
from steps.common.runtime import cluster_settings
from steps.provision.attempt.attempts import Attempt, Stage

POLL_SECONDS = 1.0
IDLE = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "10m", "memory": "16Mi"}}
# GKE's autoscaler does not remove a node that runs a pod with this annotation.
NOT_EVICTABLE = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}


@dataclass(frozen=True)
class Holder:
    """A holder pod, the only one of its run."""

    name: str
    run: str
    placement: Placement  # of the run's pods: it requests what they will
    idle: bool = False  # it only keeps a node, and requests next to nothing

    def create(self) -> None:
        """Create the pod, unless an earlier process that was killed has created it.

        Raises:
            UserError: the account may not, or the namespace's quota is used up.
        """
        delete_holders(self.run, cluster_settings.namespace(), but=self.name)
        with suppress(ConflictError), api_errors():
            client.core().create_namespaced_pod(cluster_settings.namespace(), self._body())

    def node(self) -> str | None:
        """Return the pod's node; empty while it has none, None if the pod was deleted."""
        pod = self._read()
        return str(pod.spec.node_name or "") if pod else None

    def unmet(self) -> str:
        """Return why the pod has no node, as the scheduler reports it; empty if it reports nothing."""
        return self._unmet(self._read())

    def _unmet(self, pod: Any) -> str:
        conditions = (pod.status.conditions or []) if pod else []
        return next((one.message for one in conditions if one.status != "True" and one.message), "")

    def events(self) -> list[Any]:
        """Return the Events about the pod, without those about an earlier pod of its name, which are kept for an hour."""
        pod = self._read()
        if pod is None:
            return []
        with api_errors():
            selector = f"involvedObject.kind=Pod,involvedObject.uid={pod.metadata.uid}"
            return list(
                client.core().list_namespaced_event(cluster_settings.namespace(), field_selector=selector).items
            )

    def wait(self, attempt: Attempt, subject: str, seconds: float, each: Callable[[], None] | None = None) -> str:
        """Wait until the pod has a node, and return it; empty if it has none in time.

        Args:
            attempt: is updated.
            subject: what is waited for.
            seconds: how long to wait.
            each: called about once a second.
        """
        watch, started = StartWatch(subject), time.time()
        while True:
            attempt.seconds = time.time() - started
            pod = self._read()
            if pod and pod.spec.node_name:
                attempt.stage = Stage.READY
                return str(pod.spec.node_name)
            if pod is None:
                self.create()  # somebody has deleted it
            if each:
                each()
            if attempt.seconds > seconds:
                return ""
            watch.report(" ".join(self._unmet(pod).split()))
            time.sleep(POLL_SECONDS)

    def _read(self) -> Any:
        """Return the pod, or None."""
        return none_if_absent(lambda: client.core().read_namespaced_pod(self.name, cluster_settings.namespace()))

    def _body(self) -> dict[str, Any]:
        return {
            "metadata": {
                "name": self.name,
                "labels": {"app.kubernetes.io/part-of": "fineline", COMPONENT_LABEL: HOLDER, RUN_LABEL: self.run},
                "annotations": NOT_EVICTABLE,
            },
            "spec": {
                **cluster_settings.of_every_pod(),
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
                        "image": cluster_settings.pause_image(),
                        "resources": IDLE if self.idle else resources(self.placement),
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }
                ],
                **scheduling(self.placement),
            },
        }
