"""Writes to Deployments and Services that only the holder of the model's serving lease can make.

Each write names the resourceVersion of the object as it was read, and leaves the holder's fence on it. A new holder first
writes its fence on every object. So a process that was paused, lost the lease, and wakes up in the middle of a write is refused
by the API server, and a later write of it by the fence.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import ConflictError, NotFoundError, none_if_absent
from steps.common.kubernetes.resource import DEPLOYMENTS, apply
from steps.common.runtime.errors import InterruptedStepError
from steps.rollout.lease.serving_lease import ServingLease

FENCE = "fineline.dev/fence"  # annotation: of the holder that wrote the object last
TRIES = 20  # a controller may write the status of an object between our reading and writing it


class GuardedWrite:
    """Writes for one holder of a serving lease."""

    def __init__(self, lease: ServingLease, namespace: str) -> None:
        self._lease, self._namespace = lease, namespace

    def apply(self, body: dict[str, Any]) -> None:
        """Create or change a Deployment or a Service by server-side apply."""
        metadata = body["metadata"]

        def write(found: dict[str, Any] | None) -> None:
            annotations = {**metadata.get("annotations", {}), FENCE: str(self._lease.fence)}
            known = {"resourceVersion": found["metadata"]["resourceVersion"]} if found else {}
            apply({**body, "metadata": {**metadata, **known, "annotations": annotations}}, self._namespace)

        self._write(body["kind"], metadata["name"], write)

    def patch(self, kind: str, name: str, body: dict[str, Any]) -> None:
        """Merge fields into a Deployment or a Service, if it exists; a field of None is removed."""

        def write(found: dict[str, Any] | None) -> None:
            if found is None:
                return
            metadata = body.get("metadata", {})
            annotations = {**metadata.get("annotations", {}), FENCE: str(self._lease.fence)}
            known = {"resourceVersion": found["metadata"]["resourceVersion"], "annotations": annotations}
            changed = {**body, "metadata": {**metadata, **known}}
            if kind == "Deployment":
                DEPLOYMENTS.patch(name, changed, self._namespace)
            else:
                none_if_absent(lambda: client.core().patch_namespaced_service(name, self._namespace, changed))

        self._write(kind, name, write)

    def delete(self, kind: str, name: str) -> None:
        """Delete a Deployment or a Service, if it exists."""

        def write(found: dict[str, Any] | None) -> None:
            if found is None:
                return
            body = {"preconditions": {"resourceVersion": found["metadata"]["resourceVersion"]}}
            core, apps = client.core(), client.apps()
            delete = apps.delete_namespaced_deployment if kind == "Deployment" else core.delete_namespaced_service
            none_if_absent(partial(delete, name, self._namespace, body=body))

        self._write(kind, name, write)

    def _write(self, kind: str, name: str, write: Callable[[dict[str, Any] | None], None]) -> None:
        """Read an object, look whether this process may write it, and write it as long as nobody else has in between.

        Raises:
            TakenOverError: a rollback has taken the lease.
            InterruptedStepError: another process has taken it.
        """
        for attempt in range(TRIES):
            found = self._read(kind, name)
            self._lease.check()
            if found and fence_of(found) > self._lease.fence:
                raise InterruptedStepError(f"{kind} {name} was changed by a later rollout")
            try:
                write(found)
            except (ConflictError, NotFoundError):
                if attempt == TRIES - 1:
                    raise
            else:
                return

    def _read(self, kind: str, name: str) -> dict[str, Any] | None:
        core, apps = client.core(), client.apps()
        read = apps.read_namespaced_deployment if kind == "Deployment" else core.read_namespaced_service
        found = none_if_absent(partial(read, name, self._namespace))
        return client.as_dict(found) if found else None


def fence_of(item: dict[str, Any]) -> int:
    """Return the fence on an object; 0 if no holder has written it."""
    text = str((item["metadata"].get("annotations") or {}).get(FENCE, ""))
    return int(text) if text.isdigit() else 0
