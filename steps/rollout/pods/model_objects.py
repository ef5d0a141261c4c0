"""The few calls of Kubernetes' API that a rollout makes, in this pod's namespace."""

from typing import Any

from steps.common.kubernetes import api
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import RefusedError
from steps.rollout.pods import version_objects

MANAGER = "fineline"
APPLY = "application/apply-patch+yaml"


class Api:
    """Deployments, Services and pods of one model."""

    def __init__(self, model: str) -> None:
        from kubernetes import client

        api.connect()
        self._apps, self._core = client.AppsV1Api(), client.CoreV1Api()
        self._space, self._model = cluster_settings.namespace(), model

    def apply(self, body: dict[str, Any]) -> None:
        """Create the object or make it as given, by server-side apply."""
        patch = (
            self._apps.patch_namespaced_deployment
            if body["kind"] == "Deployment"
            else self._core.patch_namespaced_service
        )
        with api.in_one_line():
            patch(body["metadata"]["name"], self._space, body, field_manager=MANAGER, force=True, _content_type=APPLY)

    def deployment(self, name: str) -> Any | None:
        """Return the Deployment, or None."""
        return api.if_there(lambda: self._apps.read_namespaced_deployment(name, self._space))

    def deployments(self) -> list[Any]:
        """Return the model's Deployments."""
        selector = f"{version_objects.MODEL_LABEL}={self._model}"
        with api.in_one_line():
            return list(self._apps.list_namespaced_deployment(self._space, label_selector=selector).items)

    def mark(self, name: str, state: str | None, reason: str | None = None, replicas: int | None = None) -> None:
        """Label a Deployment with its state, note why it was refused, and scale it; where it is there."""
        annotations = {version_objects.REASON: reason, version_objects.REPLICAS: None}
        metadata = {"labels": {version_objects.STATE: state}, "annotations": annotations}
        body: dict[str, Any] = {"metadata": metadata}
        if replicas is not None:
            body["spec"] = {"replicas": replicas}
        api.if_there(lambda: self._apps.patch_namespaced_deployment(name, self._space, body))

    def stop(self, name: str) -> None:
        """Scale a Deployment to nothing and note what it had; where it is there and has any."""
        found = self.deployment(name)
        if found and found.spec.replicas:
            self._scale(name, 0, str(found.spec.replicas))

    def stopped(self, name: str) -> int:
        """Return how many replicas a Deployment had that a rollout has stopped; 0: it was not."""
        found = self.deployment(name)
        if found is None or found.spec.replicas:
            return 0
        return int((found.metadata.annotations or {}).get(version_objects.REPLICAS, 0))

    def start_again(self, name: str) -> bool:
        """Scale a Deployment that a rollout has stopped to what it had; tell whether it was stopped."""
        replicas = self.stopped(name)
        if replicas:
            self._scale(name, replicas, None)
        return bool(replicas)

    def _scale(self, name: str, replicas: int, noted: str | None) -> None:
        body = {"metadata": {"annotations": {version_objects.REPLICAS: noted}}, "spec": {"replicas": replicas}}
        api.if_there(lambda: self._apps.patch_namespaced_deployment(name, self._space, body))

    def service(self, name: str) -> Any | None:
        """Return the Service, or None.

        Raises:
            RefusedError: a Service of that name belongs to somebody else.
        """
        found = api.if_there(lambda: self._core.read_namespaced_service(name, self._space))
        if found and (found.metadata.labels or {}).get(version_objects.MODEL_LABEL) != name:
            raise RefusedError(f"a Service {name!r} that is not this model's is there; remove it or rename the model")
        return found

    def delete_service(self, name: str) -> None:
        """Delete a Service."""
        api.if_there(lambda: self._core.delete_namespaced_service(name, self._space))

    def delete_version(self, full_name: str) -> None:
        """Delete a version's Service and Deployment, and with it its pods."""
        self.delete_service(full_name)
        api.if_there(lambda: self._apps.delete_namespaced_deployment(full_name, self._space))

    def pods(self, version: int) -> list[Any]:
        """Return the pods of a version, without those that are ending."""
        selector = f"{version_objects.MODEL_LABEL}={self._model},{version_objects.VERSION_LABEL}={version}"
        with api.in_one_line():
            found = self._core.list_namespaced_pod(self._space, label_selector=selector).items
        return [pod for pod in found if not pod.metadata.deletion_timestamp]

    def ending(self, version: int) -> bool:
        """Tell whether any pod of a version is there, ending or not."""
        selector = f"{version_objects.MODEL_LABEL}={self._model},{version_objects.VERSION_LABEL}={version}"
        with api.in_one_line():
            return bool(self._core.list_namespaced_pod(self._space, label_selector=selector).items)


def not_made(deployment: Any) -> str:
    """Return why a pod of the Deployment is not even made; empty where nothing is said."""
    for condition in deployment.status.conditions or []:
        if condition.type == "ReplicaFailure" and condition.status == "True":
            return str(condition.message)
    return ""


def no_room(deployment: Any, pods: list[Any]) -> str:
    """Return that a quota is used up, or why no node takes a pod; empty where neither is said."""
    if "exceeded quota" in (refused := not_made(deployment)):
        return refused
    for condition in (condition for pod in pods for condition in pod.status.conditions or []):
        if condition.type == "PodScheduled" and condition.status == "False" and condition.reason == "Unschedulable":
            return str(condition.message)
    return ""


def starts_lost(pods: list[Any]) -> int:
    """Return how often a container of these pods has ended, and was started again."""
    statuses = [[*(p.status.init_container_statuses or []), *(p.status.container_statuses or [])] for p in pods]
    return max((container.restart_count for of_pod in statuses for container in of_pod), default=0)


def why_not_ready(pods: list[Any], refused: str = "") -> str:
    """Return in one line what a version's pods say; where there are none, what was said of making them."""
    if not pods:
        return refused or "it has no pod"
    status = pods[0].status
    for container in [*(status.init_container_statuses or []), *(status.container_statuses or [])]:
        for state in (container.state, container.last_state):
            told = state and (state.waiting or state.terminated)
            if told and told.reason and told.reason != "PodInitializing":
                return f"container {container.name}: {told.reason} {' '.join((told.message or '').split())}".strip()
    unmet = [c for c in status.conditions or [] if c.status != "True" and c.message]
    return unmet[0].message if unmet else f"its pod is {status.phase}"
