"""The cluster that the kubeconfig names, and its errors in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from steps.common.runtime.errors import UserError

GROUP, API_VERSION = "argoproj.io", "v1alpha1"
LABEL = "app.kubernetes.io/part-of=fineline"


class ForbiddenError(UserError):
    """The user has no right to what was asked; what admission refuses (a quota, a policy) is no matter of rights."""


class Connection:
    """Kubernetes' API in one namespace."""

    def __init__(self, namespace: str, context: str) -> None:
        """Read the kubeconfig, as kubectl does.

        Args:
            namespace: where Fineline is installed; empty: the context's own.
            context: of the kubeconfig; empty: the current one.

        Raises:
            UserError: there is no kubeconfig, or no such context in it.
        """
        from kubernetes import client, config

        try:
            contexts, current = config.list_kube_config_contexts()
            config.load_kube_config(context=context or None)
        except config.ConfigException as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise UserError(f"kubeconfig: {reason}; name one by KUBECONFIG, e.g. of kind or of your cloud") from None
        chosen = next((found for found in contexts if found["name"] == context), current)
        self.context = str(chosen["name"])
        self.namespace = namespace or str(chosen["context"].get("namespace") or "default")
        self.core = client.CoreV1Api()
        self._custom = client.CustomObjectsApi()

    def get(self, plural: str, name: str) -> dict[str, Any] | None:
        """Return one of Argo's objects, or None."""
        from kubernetes.client import ApiException

        with told():
            try:
                return dict(self._custom.get_namespaced_custom_object(GROUP, API_VERSION, self.namespace, plural, name))
            except ApiException as error:
                if error.status == 404:
                    return None
                raise

    def runs(self, selector: str = LABEL) -> list[dict[str, Any]]:
        """Return the Workflows that bear a label."""
        with told():
            found = self._custom.list_namespaced_custom_object(
                GROUP, API_VERSION, self.namespace, "workflows", label_selector=selector
            )
            return list(found["items"])

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a Workflow."""
        with told():
            return dict(
                self._custom.create_namespaced_custom_object(GROUP, API_VERSION, self.namespace, "workflows", body)
            )

    def apply(self, plural: str, body: dict[str, Any]) -> None:
        """Create one of Argo's objects or make it as given, by server-side apply."""
        with told():
            self._custom.patch_namespaced_custom_object(
                GROUP,
                API_VERSION,
                self.namespace,
                plural,
                body["metadata"]["name"],
                body,
                field_manager="fineline",
                force=True,
                _content_type="application/apply-patch+yaml",
            )

    def delete(self, plural: str, name: str) -> None:
        """Delete one of Argo's objects."""
        with told():
            self._custom.delete_namespaced_custom_object(GROUP, API_VERSION, self.namespace, plural, name)

    def stop(self, run: str) -> None:
        """Let a Workflow end, its exit handler included."""
        with told():
            self._custom.patch_namespaced_custom_object(
                GROUP, API_VERSION, self.namespace, "workflows", run, {"spec": {"shutdown": "Stop"}}
            )


@contextmanager
def told() -> Iterator[None]:
    """Turn what goes wrong between here and the cluster into one line.

    Raises:
        ForbiddenError: the user may not do that.
        UserError: the cluster is out of reach, or refuses.
    """
    import json

    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        try:
            message = json.loads(error.body)["message"]
        except (ValueError, KeyError, TypeError):
            message = error.reason or str(error)
        # Of the two that answer 403 only authorization says it so.
        kind = ForbiddenError if error.status == 403 and " cannot " in str(message) else UserError
        raise kind(f"the cluster answers: {' '.join(str(message).split())}") from None
    except HTTPError as error:
        raise UserError(f"the cluster is out of reach: {str(error).splitlines()[0]}") from None
