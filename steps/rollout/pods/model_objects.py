"""A model's Deployments, Services and pods in this pod's namespace, as a rollout reads and changes them.

Every change is a guarded write of the holder of the model's serving lease.
"""

from typing import Any

from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import api_errors, none_if_absent
from steps.common.kubernetes.wait import why_not_created, why_unschedulable
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import RefusedError
from steps.rollout.lease.serving_lease import ServingLease
from steps.rollout.pods import version_objects
from steps.rollout.pods.guarded_write import GuardedWrite, fence_of


class ModelObjects:
    """Deployments, Services and pods of one model."""

    def __init__(self, model: str, lease: ServingLease) -> None:
        self._namespace, self._model = cluster_settings.namespace(), model
        self._guarded = GuardedWrite(lease, self._namespace)

    def claim(self) -> None:
        """Write the lease's fence on every object of the model: what an earlier holder still tries to write is refused."""
        for found in self.deployments():
            for kind in ("Deployment", "Service"):
                self._guarded.patch(kind, found.metadata.name, {})
        if self.service(self._model):
            self._guarded.patch("Service", self._model, {})

    def apply(self, body: dict[str, Any]) -> None:
        """Create or change an object by server-side apply."""
        self._guarded.apply(body)

    def deployment(self, name: str) -> Any | None:
        """Return a Deployment, or None."""
        return none_if_absent(lambda: client.apps().read_namespaced_deployment(name, self._namespace))

    def deployments(self) -> list[Any]:
        """Return the model's Deployments."""
        return deployments(self._model, self._namespace)

    def mark(self, name: str, state: str | None, reason: str | None = None, replicas: int | None = None) -> None:
        """Label a Deployment with its state, annotate why it was refused, and scale it; if it exists."""
        annotations = {version_objects.REASON: reason, version_objects.REPLICAS: None}
        metadata = {"labels": {version_objects.STATE: state}, "annotations": annotations}
        body: dict[str, Any] = {"metadata": metadata}
        if replicas is not None:
            body["spec"] = {"replicas": replicas}
        self._guarded.patch("Deployment", name, body)

    def stop(self, name: str) -> None:
        """Scale a Deployment to zero and annotate how many replicas it had; if it exists and has any."""
        found = self.deployment(name)
        if found and found.spec.replicas:
            self._scale(name, 0, str(found.spec.replicas))

    def stopped_replicas(self, name: str) -> int:
        """Return how many replicas a Deployment had before a rollout stopped it; 0 if none did."""
        found = self.deployment(name)
        if found is None or found.spec.replicas:
            return 0
        return int((found.metadata.annotations or {}).get(version_objects.REPLICAS, 0))

    def restart(self, name: str) -> bool:
        """Scale a Deployment that a rollout stopped to what it had before; return whether one was stopped."""
        replicas = self.stopped_replicas(name)
        if replicas:
            self._scale(name, replicas, None)
        return bool(replicas)

    def _scale(self, name: str, replicas: int, annotation: str | None) -> None:
        body = {"metadata": {"annotations": {version_objects.REPLICAS: annotation}}, "spec": {"replicas": replicas}}
        self._guarded.patch("Deployment", name, body)

    def service(self, name: str) -> Any | None:
        """Return a Service, or None.

        Raises:
            RefusedError: the Service of that name does not belong to this model.
        """
        found = live_service(name, self._namespace)
        if found and (found.metadata.labels or {}).get(version_objects.MODEL_LABEL) != name:
            raise RefusedError(
                f"the Service {name!r} exists and does not belong to this model; delete it or rename the model"
            )
        return found

    def delete_service(self, name: str) -> None:
        """Delete a Service, if it exists."""
        self._guarded.delete("Service", name)

    def delete_version(self, full_name: str) -> None:
        """Delete a version's Service and Deployment, and with it its pods."""
        self.delete_service(full_name)
        self._guarded.delete("Deployment", full_name)

    def pods(self, version: int) -> list[Any]:
        """Return the pods of a version that are not terminating."""
        return [pod for pod in self._all_pods(version) if not pod.metadata.deletion_timestamp]

    def has_pods(self, version: int) -> bool:
        """Return whether a version has any pod, terminating or not."""
        return bool(self._all_pods(version))

    def _all_pods(self, version: int) -> list[Any]:
        selector = f"{version_objects.MODEL_LABEL}={self._model},{version_objects.VERSION_LABEL}={version}"
        return client.pods(self._namespace, selector)


def highest_fence(model: str) -> int:
    """Return the highest fence on a model's objects; 0 if no holder of its serving lease has written any."""
    space = cluster_settings.namespace()
    found = [*deployments(model, space), live_service(model, space)]
    return max((fence_of(client.as_dict(one)) for one in found if one), default=0)


def deployments(model: str, namespace: str) -> list[Any]:
    """Return the Deployments of a model."""
    selector = f"{version_objects.MODEL_LABEL}={model}"
    with api_errors():
        return list(client.apps().list_namespaced_deployment(namespace, label_selector=selector).items)


def live_service(model: str, namespace: str) -> Any | None:
    """Return the Service of a model's name, whoever it belongs to, or None."""
    return none_if_absent(lambda: client.core().read_namespaced_service(model, namespace))


def why_no_room(deployment: Any, pods: list[Any]) -> str:
    """Return that a quota is used up, or why no node can run a pod; empty if neither is reported."""
    if "exceeded quota" in (refused := why_not_created(deployment)):
        return refused
    return next((why for pod in pods if (why := why_unschedulable(pod)) is not None), "")
