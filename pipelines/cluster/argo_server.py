"""Argo's objects through Argo Server, for users who have a token for it and no kubeconfig."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from pipelines.cluster.connection import LABEL, Connection
from steps.common.runtime.errors import UserError

# The environment variables of the argo command:
# https://argo-workflows.readthedocs.io/en/latest/cli/argo/
SERVER, TOKEN, SECURE, NOT_VERIFIED, NAMESPACE = (
    "ARGO_SERVER",
    "ARGO_TOKEN",
    "ARGO_SECURE",
    "ARGO_INSECURE_SKIP_VERIFY",
    "ARGO_NAMESPACE",
)


class ArgoServer:
    """A `Connection` that reads and writes Argo's objects through Argo Server; pods come from the kubeconfig's cluster."""

    def __init__(self, namespace: str, context: str) -> None:
        """Read the server's address and the token from the environment.

        Args:
            namespace: where Fineline is installed; empty: ARGO_NAMESPACE.
            context: of the kubeconfig, for what only the Kubernetes API can answer.

        Raises:
            UserError: no namespace is named.
        """
        from hera.workflows import WorkflowsService

        namespace = namespace or os.environ.get(NAMESPACE, "")
        if not namespace:
            raise UserError(f"Argo Server needs Fineline's namespace: use -n NAMESPACE, or export {NAMESPACE}=…")
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
        read = getattr(self._service, calls[plural])
        with self._errors():
            try:
                return _as_json(read(name, self.namespace))
            except NotFound:
                return None

    @cached_property
    def core(self) -> Any:
        """The client of Kubernetes' core kinds.

        Raises:
            UserError: there is no kubeconfig.
        """
        return Connection(self.namespace, self._context).core

    def runs(self, selector: str = LABEL) -> list[dict[str, Any]]:
        """Return the Workflows that have a label."""
        with self._errors():
            found = self._service.list_workflows(self.namespace, label_selector=selector)
        return [_as_json(item) for item in found.items or []]

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a Workflow."""
        from hera.workflows.models import Workflow, WorkflowCreateRequest

        request = WorkflowCreateRequest(workflow=Workflow.model_validate(body))
        with self._errors():
            return _as_json(self._service.create_workflow(request, self.namespace))

    def user(self) -> str:
        """Return the name of the person at this machine: Argo Server does not pass on who has which token."""
        return getpass.getuser()

    def stop(self, run: str) -> None:
        """Let a run end, its exit handler included."""
        from hera.workflows.models import WorkflowStopRequest

        with self._errors():
            self._service.stop_workflow(run, WorkflowStopRequest(name=run, namespace=self.namespace), self.namespace)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from hera.exceptions import HeraException, NotFound, Unauthorized
        from requests import RequestException

        try:
            yield
        except NotFound:
            raise
        except Unauthorized:
            raise UserError(f"Argo Server {self.context} requires a token: export {TOKEN}='Bearer …'") from None
        except HeraException as error:
            raise UserError(f"Argo Server answers: {' '.join(str(error).split())}") from None
        except RequestException as error:
            raise UserError(
                f"cannot reach Argo Server at {self.context}: {type(error).__name__}; {SERVER} sets its address"
            ) from None


def address() -> str:
    """Return the URL of Argo Server, from ARGO_SERVER (HOST:PORT) and ARGO_SECURE, as the argo command reads them."""
    host = os.environ[SERVER]
    return host if "://" in host else f"{'http' if os.environ.get(SECURE) == 'false' else 'https'}://{host}"


ClusterConnection = Connection | ArgoServer


def connect(namespace: str, context: str) -> ClusterConnection:
    """Connect to Argo Server if ARGO_SERVER is set, else to the kubeconfig's cluster.

    Raises:
        UserError: as for each of them.
    """
    return ArgoServer(namespace, context) if os.environ.get(SERVER) else Connection(namespace, context)


def _as_json(model: Any) -> dict[str, Any]:
    return dict(model.model_dump(mode="json", by_alias=True, exclude_none=True))
