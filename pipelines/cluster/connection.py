"""Argo's objects in a namespace of the cluster that the kubeconfig names."""

import getpass
from typing import Any

from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import NotFoundError
from steps.common.kubernetes.owner import PART_OF
from steps.common.kubernetes.resource import Resource
from steps.common.kubernetes.workflow_objects import ARGO_GROUP, ARGO_VERSION, WORKFLOWS
from steps.common.runtime.errors import UserError

LABEL = "app.kubernetes.io/part-of=fineline"


class Connection:
    """The Kubernetes API, for one namespace."""

    def __init__(self, namespace: str, context: str) -> None:
        """Read the kubeconfig, as kubectl does.

        Args:
            namespace: where Fineline is installed; empty: the context's own.
            context: of the kubeconfig; empty: the current one.

        Raises:
            UserError: there is no kubeconfig, or it has no such context.
        """
        chosen = client.connect_with_kubeconfig(context)
        self.context = chosen.name
        self.namespace = namespace or chosen.namespace or "default"
        self.core = client.core()

    def get(self, plural: str, name: str) -> dict[str, Any] | None:
        """Return one of Argo's objects, or None."""
        return _argo(plural).read(name, self.namespace)

    def runs(self, selector: str = LABEL) -> list[dict[str, Any]]:
        """Return the Workflows that have a label."""
        return WORKFLOWS.list(selector, self.namespace)

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a Workflow.

        Raises:
            UserError: it is refused.
        """
        return WORKFLOWS.create(body, self.namespace)

    def apply(self, plural: str, body: dict[str, Any]) -> None:
        """Create or change one of Argo's objects by server-side apply.

        Raises:
            ForeignObjectError: one of its name exists, and is not Fineline's.
            UserError: it is refused.
        """
        _argo(plural).apply(body, self.namespace, owner=PART_OF)

    def delete(self, plural: str, name: str) -> None:
        """Delete one of Argo's objects, if it exists."""
        _argo(plural).delete(name, self.namespace, owner=PART_OF)

    def user(self) -> str:
        """Return the name by which the cluster knows the person of the kubeconfig, or else this machine does."""
        try:
            return client.user_name()
        except UserError:  # before Kubernetes 1.28
            return getpass.getuser()

    def stop(self, run: str) -> None:
        """Let a run end, its exit handler included.

        Raises:
            UserError: there is no such run, or it may not be stopped.
        """
        if WORKFLOWS.patch(run, {"spec": {"shutdown": "Stop"}}, self.namespace) is None:
            raise NotFoundError(f"no run {run!r} in namespace {self.namespace!r}")


def _argo(plural: str) -> Resource:
    return Resource(ARGO_GROUP, plural, ARGO_VERSION)
