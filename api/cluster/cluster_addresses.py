"""The models that a namespace of the cluster serves."""

import contextlib
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import replace

from api.cluster.job_workflow import JOB_LABEL, MADE_BY, OF_THE_API, THE_API
from api.models import registered_models
from api.models.served_addresses import ServedModel
from pipelines.cluster import submission
from pipelines.workflows import stop_serving
from steps.common.kubernetes.api_errors import ConflictError
from steps.common.kubernetes.owned_objects import OwnedObjects
from steps.common.kubernetes.owner import ForeignObjectError
from steps.common.kubernetes.resource import SERVICES
from steps.common.kubernetes.workflow_objects import WORKFLOWS
from steps.common.runtime import cluster_settings
from steps.rollout.pods.object_names import MODEL_LABEL, VERSION_LABEL, owner_of_model

COMPLETED_LABEL = "workflows.argoproj.io/completed"  # Argo's
SEEN_SECONDS = 5.0  # for which a model is taken to be served: each chat asks


class ClusterAddresses:
    """See `Addresses`. Only runs of Fineline's templates change what is served; this pod may not."""

    def __init__(self, namespace: str = "") -> None:
        """Set the namespace; empty: this pod's."""
        self._namespace = namespace or cluster_settings.namespace()
        self._seen: dict[str, tuple[float, int]] = {}  # until when, and the version, by model

    def url(self, name: str) -> str | None:
        """Return the base URL of a model's Service; None if it is not served."""
        return f"http://{name}.{self._namespace}.svc/v1" if self._version(name) else None

    def api_key(self) -> str:
        """Return the key that the served models require; empty if none is set."""
        return cluster_settings.api_key()

    def known(self, names: Collection[str]) -> Mapping[str, ServedModel]:
        """Return the models that have a version that was not withdrawn, by name.

        Raises:
            UnreachableError: the registry does not answer.
        """
        found = registered_models.registered(names)
        live = {name: version for name in found if (version := self._version(name))}
        return {
            name: replace(one, version=live[name], served=True) if name in live else one for name, one in found.items()
        }

    def stop(self, name: str) -> None:
        """Start the run that stops serving a model, unless it is under way; it waits for a rollout that is under way.

        Raises:
            UserError: the cluster refuses it.
        """
        if self._read_version(name) and not WORKFLOWS.list_metadata(_stopping(name), self._namespace):
            run = f"stop-{name}"[:50].rstrip("-") + f"-{secrets.token_hex(4)}"
            body = submission.build(name, {"name": name}, stop_serving.NAME, run).to_dict()
            body["metadata"]["labels"] |= {MADE_BY: THE_API}
            body["metadata"]["namespace"] = self._namespace
            with contextlib.suppress(ConflictError):  # the first answer was lost
                WORKFLOWS.create(body, self._namespace)

    def withdraw(self, name: str, by: str) -> None:
        """Withdraw every version of a model, and delete its aliases.

        Raises:
            UnreachableError: the registry does not answer.
        """
        registered_models.withdraw_all(name, by)

    def _version(self, name: str) -> int:
        """Return the version that a model's Service sends its requests to, as of some seconds ago; 0: it has no Service."""
        until, version = self._seen.get(name, (0.0, 0))
        if until < time.monotonic():
            version = self._read_version(name)
            if version:
                self._seen[name] = (time.monotonic() + SEEN_SECONDS, version)
        return version

    def _read_version(self, name: str) -> int:
        try:
            found = OwnedObjects(self._namespace, owner_of_model(name)).read(SERVICES, name)
        except ForeignObjectError:
            return 0
        return int(found["metadata"]["labels"][VERSION_LABEL]) if found else 0


def _stopping(name: str) -> str:
    """Return the selector of the runs that stop serving a model and have not ended."""
    return f"{OF_THE_API},!{JOB_LABEL},{MODEL_LABEL}={name},{COMPLETED_LABEL}!=true"
