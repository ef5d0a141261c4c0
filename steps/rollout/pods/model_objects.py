"""A model's Deployments, Services and pods in this pod's namespace, as a rollout reads and changes them."""

from typing import Any

from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import api_errors, none_if_absent
from steps.common.kubernetes.resource import DEPLOYMENTS, apply
from steps.common.kubernetes.wait import why_not_created, why_unschedulable
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import RefusedError
from steps.rollout.pods import version_objects


class ModelObjects:
    """Deployments, Services and pods of one model."""

    def __init__(self, model: str) -> None:
        self._namespace, self._model = cluster_settings.namespace(), model

    def apply(self, body: dict[str, Any]) -> None:
        """Create or change an object by server-side apply."""
        apply(body, self._namespace)

    def deployment(self, name: str) -> Any | None:
        """Return a Deployment, or None."""
        return none_if_absent(lambda: client.apps().read_namespaced_deployment(name, self._namespace))

    def requires_key(self, name: str) -> bool:
        """Return whether the pods of a Deployment do not start without their API key."""
        found = self.deployment(name)
        containers = found.spec.template.spec.containers if found else []
        settings = [setting for container in containers for setting in container.env or []]
        return any(
            setting.name == cluster_settings.API_KEY_SETTING
            and setting.value_from
            and not setting.value_from.secret_key_ref.optional
            for setting in settings
        )

    def deployments(self) -> list[Any]:
        """Return the model's Deployments."""
        selector = f"{version_objects.MODEL_LABEL}={self._model}"
        with api_errors():
            return list(client.apps().list_namespaced_deployment(self._namespace, label_selector=selector).items)

    def mark(self, name: str, state: str | None, reason: str | None = None, replicas: int | None = None) -> None:
        """Label a Deployment with its state, annotate why it was refused, and scale it; if it exists."""
        annotations = {version_objects.REASON: reason, version_objects.REPLICAS: None}
        metadata = {"labels": {version_objects.STATE: state}, "annotations": annotations}
        body: dict[str, Any] = {"metadata": metadata}
        if replicas is not None:
            body["spec"] = {"replicas": replicas}
        DEPLOYMENTS.patch(name, body, self._namespace)

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
        DEPLOYMENTS.patch(name, body, self._namespace)

    def service(self, name: str) -> Any | None:
        """Return a Service, or None.

        Raises:
            RefusedError: the Service of that name does not belong to this model.
        """
        found = none_if_absent(lambda: client.core().read_namespaced_service(name, self._namespace))
        if found and (found.metadata.labels or {}).get(version_objects.MODEL_LABEL) != name:
            raise RefusedError(
                f"the Service {name!r} exists and does not belong to this model; delete it or rename the model"
            )
        return found

    def delete_service(self, name: str) -> None:
        """Delete a Service, if it exists."""
        none_if_absent(lambda: client.core().delete_namespaced_service(name, self._namespace))

    def delete_version(self, full_name: str) -> None:
        """Delete a version's Service and Deployment, and with it its pods."""
        self.delete_service(full_name)
        none_if_absent(lambda: client.apps().delete_namespaced_deployment(full_name, self._namespace))

    def pods(self, version: int) -> list[Any]:
        """Return the pods of a version that are not terminating."""
        return [pod for pod in self._all_pods(version) if not pod.metadata.deletion_timestamp]

    def has_pods(self, version: int) -> bool:
        """Return whether a version has any pod, terminating or not."""
        return bool(self._all_pods(version))

    def _all_pods(self, version: int) -> list[Any]:
        selector = f"{version_objects.MODEL_LABEL}={self._model},{version_objects.VERSION_LABEL}={version}"
        return client.pods(self._namespace, selector)


def why_no_room(deployment: Any, pods: list[Any]) -> str:
    """Return that a quota is used up, or why no node can run a pod; empty if neither is reported."""
    if "exceeded quota" in (refused := why_not_created(deployment)):
        return refused
    return next((why for pod in pods if (why := why_unschedulable(pod)) is not None), "")
