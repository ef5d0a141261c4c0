"""A model's Deployments, Services and pods in this pod's namespace, as a rollout reads and changes them.

Only the holder of the model's serving lease changes them.
"""

from contextlib import suppress
from typing import Any

from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import none_if_absent
from steps.common.kubernetes.owned_objects import OwnedObjects
from steps.common.kubernetes.owner import ForeignObjectError
from steps.common.kubernetes.resource import DEPLOYMENTS, SERVICES
from steps.common.kubernetes.wait import why_not_created, why_unschedulable
from steps.common.runtime import cluster_settings
from steps.rollout.lease.right import ServingLease
from steps.rollout.pods import served_version, version_objects
from steps.rollout.pods.fence import Fence, fence_of
from steps.rollout.pods.object_names import VERSION_LABEL, owner_of_model
from steps.rollout.pods.served_version import ServedVersion
from steps.rollout.pods.version_objects import VersionSpec


class ModelObjects:
    """Deployments, Services and pods of one model. What belongs to another model, or to nobody of ours, is left as it is."""

    def __init__(self, model: str, lease: ServingLease) -> None:
        self._namespace, self._model = cluster_settings.namespace(), model
        fence = Fence(lease)
        self._objects = OwnedObjects(self._namespace, owner_of_model(model), fence.check, fence.annotations)

    def claim(self) -> None:
        """Write the lease's fence on every object of the model: what an earlier holder still tries to write is refused."""
        for found in self.deployments():
            name = found["metadata"]["name"]
            self._objects.patch(DEPLOYMENTS, name, {})
            with suppress(ForeignObjectError):  # see `close`
                self._objects.patch(SERVICES, name, {})
        self._objects.patch(SERVICES, self._model, {})

    def check_names(self, spec: VersionSpec) -> None:
        """Check that a version's names, and the model's, are free or this model's own.

        Raises:
            ForeignObjectError: an object of such a name belongs to somebody else.
        """
        self._objects.read(SERVICES, self._model)
        self._objects.read(SERVICES, spec.full_name)
        self._objects.read(DEPLOYMENTS, spec.full_name)

    def apply_version(self, spec: VersionSpec) -> None:
        """Create or change a version's Deployment, disruption budget and Service, and remove the state it was marked with."""
        made = self._objects.apply(version_objects.deployment(spec))
        self._objects.apply(version_objects.disruption_budget(spec, made["metadata"]["uid"]))
        self._objects.apply(version_objects.service(spec.full_name, self._model, spec.served))
        self.mark(spec.full_name, None)

    def point_traffic(self, served: ServedVersion, on_trial_after: str | None = None) -> None:
        """Point the Service that users talk to at a version.

        Args:
            served: the version.
            on_trial_after: during a trial, the Deployment to go back to, empty if there is none; None: no trial.
        """
        self._objects.apply(version_objects.service(self._model, self._model, served, on_trial_after))

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

    def deployments(self) -> list[dict[str, Any]]:
        """Return the model's Deployments."""
        return deployments(self._model)

    def mark(self, name: str, state: str | None, reason: str | None = None, replicas: int | None = None) -> None:
        """Label a Deployment with its state, annotate why it was refused, and scale it; if it exists."""
        annotations = {version_objects.REASON: reason, version_objects.REPLICAS: None}
        metadata = {"labels": {version_objects.STATE: state}, "annotations": annotations}
        body: dict[str, Any] = {"metadata": metadata}
        if replicas is not None:
            body["spec"] = {"replicas": replicas}
        self._objects.patch(DEPLOYMENTS, name, body)

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
        self._objects.patch(DEPLOYMENTS, name, body)

    def live_service(self) -> dict[str, Any] | None:
        """Return the Service that users talk to, or None.

        Raises:
            ForeignObjectError: the Service of that name does not belong to this model.
        """
        return live_service(self._model)

    def with_traffic(self, live: dict[str, Any]) -> ServedVersion | None:
        """Return the version that the Service that users talk to sends its requests to; None if that is gone."""
        found = (one for one in self.deployments() if is_selected(one, live))
        return next(map(served_version.of_deployment, found), None)

    def before_trial(self, live: dict[str, Any]) -> ServedVersion | None:
        """Return the version that served before the trial that a Service is annotated with; None if that is gone."""
        wanted = live["metadata"]["annotations"][version_objects.TRIAL]
        # 0.1.0 wrote the number of the version.
        named = {
            one["metadata"]["labels"][VERSION_LABEL] if wanted.isdigit() else one["metadata"]["name"]: one
            for one in self.deployments()
        }
        return served_version.of_deployment(named[wanted]) if wanted in named else None

    def delete_traffic(self) -> None:
        """Delete the Service that users talk to, if it exists."""
        self._objects.delete(SERVICES, self._model)

    def close(self, name: str) -> None:
        """Delete a version's own Service, if it exists."""
        # In 0.1.0 the Service of a model called pet-store-v2 had the name of that of version 2 of pet-store.
        with suppress(ForeignObjectError):
            self._objects.delete(SERVICES, name)

    def delete_version(self, name: str) -> None:
        """Delete a version's Service and Deployment, and with it its pods and disruption budget."""
        self.close(name)
        self._objects.delete(DEPLOYMENTS, name)

    def pods(self, served: ServedVersion) -> list[Any]:
        """Return the pods of a version that are not terminating."""
        return [pod for pod in self._all_pods(served) if not pod.metadata.deletion_timestamp]

    def has_pods(self, served: ServedVersion) -> bool:
        """Return whether a version has any pod, terminating or not."""
        return bool(self._all_pods(served))

    def _all_pods(self, served: ServedVersion) -> list[Any]:
        return client.pods(self._namespace, served.selects)


def is_selected(deployment: dict[str, Any], service: dict[str, Any]) -> bool:
    """Return whether a Service sends its requests to the pods of a Deployment."""
    return bool(deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"])


def deployments(model: str) -> list[dict[str, Any]]:
    """Return the Deployments of a model."""
    return OwnedObjects(cluster_settings.namespace(), owner_of_model(model)).list(DEPLOYMENTS)


def live_service(model: str) -> dict[str, Any] | None:
    """Return the Service that users talk to, or None.

    Raises:
        ForeignObjectError: the Service of that name does not belong to the model.
    """
    return OwnedObjects(cluster_settings.namespace(), owner_of_model(model)).read(SERVICES, model)


def highest_fence(model: str) -> int:
    """Return the highest fence on a model's objects; 0 if no holder of its serving lease has written any."""
    return max((fence_of(one) for one in [*deployments(model), live_service(model)] if one), default=0)


def why_no_room(deployment: Any, pods: list[Any]) -> str:
    """Return that a quota is used up, or why no node can run a pod; empty if neither is reported."""
    if "exceeded quota" in (refused := why_not_created(deployment)):
        return refused
    return next((why for pod in pods if (why := why_unschedulable(pod)) is not None), "")
