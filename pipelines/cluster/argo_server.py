"""Argo's objects through its own server, for whoever has a token of that and no kubeconfig."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.cluster.connection import LABEL, Connection
from steps.common.runtime.errors import UserError

# The names that the argo command has for them.
SERVER, TOKEN, SECURE, NOT_VERIFIED, NAMESPACE = (
    "ARGO_SERVER",
    "ARGO_TOKEN",
    "ARGO_SECURE",
    "ARGO_INSECURE_SKIP_VERIFY",
    "ARGO_NAMESPACE",
)


class ArgoServer:
    """The same as `Connection`, with Argo's objects through Hera; pods alone are asked of the kubeconfig's cluster."""

    def __init__(self, namespace: str, context: str) -> None:
        """Read where the server is from the environment.

        Args:
            namespace: where Fineline is installed; empty: ARGO_NAMESPACE.
            context: of the kubeconfig, for what only the cluster itself can answer.

        Raises:
            UserError: no namespace is named.
        """
        from hera.workflows import WorkflowsService

        namespace = namespace or os.environ.get(NAMESPACE, "")
        if not namespace:
            raise UserError(f"name Fineline's namespace on the Argo server: -n NAMESPACE, or export {NAMESPACE}=…")
        self.namespace = namespace
        self._context = context
        self.context = address()
        self._service = WorkflowsService(
            host=self.context,
            namespace=namespace,
            token=os.environ.get(TOKEN) or None,
            verify_ssl=os.environ.get(NOT_VERIFIED) != "true",
        )

    def get(self, plural: str, name: str) -> dict[str, Any] | None:
        """Return one of Argo's objects, or None."""
        from hera.exceptions import NotFound

        calls = {
            "workflows": "get_workflow",
            "workflowtemplates": "get_workflow_template",
            "cronworkflows": "get_cron_workflow",
        }
        ask = getattr(self._service, calls[plural])
        with self._told():
            try:
                return _as_json(ask(name, self.namespace))
            except NotFound:
                return None

    @property
    def core(self) -> Any:
        """Kubernetes' own API.

        Raises:
            UserError: there is no kubeconfig.
        """
        return Connection(self.namespace, self._context).core

    def runs(self, selector: str = LABEL) -> list[dict[str, Any]]:
        """Return the Workflows that bear a label."""
        with self._told():
            found = self._service.list_workflows(self.namespace, label_selector=selector)
        return [_as_json(item) for item in found.items or []]

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a Workflow."""
        from hera.workflows.models import Workflow, WorkflowCreateRequest

        request = WorkflowCreateRequest(workflow=Workflow.model_validate(body))
        with self._told():
            return _as_json(self._service.create_workflow(request, self.namespace))

    def stop(self, run: str) -> None:
        """Let a Workflow end, its exit handler included."""
        from hera.workflows.models import WorkflowStopRequest

        with self._told():
            self._service.stop_workflow(run, WorkflowStopRequest(name=run, namespace=self.namespace), self.namespace)

    @contextmanager
    def _told(self) -> Iterator[None]:
        from hera.exceptions import HeraException, NotFound, Unauthorized
        from requests import RequestException

        try:
            yield
        except NotFound:
            raise
        except Unauthorized:
            raise UserError(f"Argo's server {self.context} wants a token: export {TOKEN}='Bearer …'") from None
        except HeraException as error:
            raise UserError(f"Argo's server answers: {' '.join(str(error).split())}") from None
        except RequestException as error:
            raise UserError(
                f"Argo's server {self.context} is out of reach: {type(error).__name__}; {SERVER} names it"
            ) from None


def address() -> str:
    """Return the URL of the server that the environment names, as the argo command reads it: HOST:PORT and whether by TLS."""
    host = os.environ[SERVER]
    return host if "://" in host else f"{'http' if os.environ.get(SECURE) == 'false' else 'https'}://{host}"


Cluster = Connection | ArgoServer


def connect(namespace: str, context: str) -> Cluster:
    """Return Argo's server where the environment names one, else the kubeconfig's cluster.

    Raises:
        UserError: as for each of them.
    """
    return ArgoServer(namespace, context) if os.environ.get(SERVER) else Connection(namespace, context)


def _as_json(model: Any) -> dict[str, Any]:
    return dict(model.model_dump(mode="json", by_alias=True, exclude_none=True))
