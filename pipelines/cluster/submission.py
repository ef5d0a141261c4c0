"""Submits a run: a Workflow, built by Hera, that refers to the installed template."""

from typing import Any

from hera.workflows import Workflow
from hera.workflows.models import WorkflowTemplateRef

from pipelines.cluster.argo_server import ClusterConnection
from pipelines.workflows import finetune
from steps.common.runtime.errors import UserError


def build(name: str, parameters: dict[str, str], template: str = finetune.NAME, run: str = "") -> Workflow:
    """Return the Workflow of one run of a template.

    Args:
        name: of the model; the run's name begins with it.
        parameters: of the template, those that differ from its defaults.
        template: its name.
        run: the run's name; empty: the cluster completes it.
    """
    return Workflow(
        name=run or None,
        generate_name=None if run else f"{name}-",
        labels={"app.kubernetes.io/part-of": "fineline", "fineline.dev/model": name},
        workflow_template_ref=WorkflowTemplateRef(name=template),
        arguments=parameters,
    )


def installed(connection: ClusterConnection, name: str = finetune.NAME) -> dict[str, Any]:
    """Return an installed WorkflowTemplate. Call it before any data is sent.

    Raises:
        UserError: Argo or Fineline is not installed in the namespace.
    """
    template = connection.get("workflowtemplates", name)
    if template is None:
        raise UserError(
            f"no WorkflowTemplate {name!r} in namespace {connection.namespace!r} of {connection.context!r}; "
            f"install it: kubectl apply --server-side -k argo/overlays/kind"
        )
    return template


def submit(connection: ClusterConnection, workflow: Workflow) -> str:
    """Submit a Workflow and return the run's name.

    Raises:
        UserError: it is refused.
    """
    body: dict[str, Any] = workflow.to_dict()
    body["metadata"]["namespace"] = connection.namespace
    return str(connection.create(body)["metadata"]["name"])
