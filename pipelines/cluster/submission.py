"""Submits a run: a Workflow that refers to the installed template, made by Hera."""

from typing import Any

from hera.workflows import Workflow
from hera.workflows.models import WorkflowTemplateRef

from pipelines.cluster.argo_server import Cluster
from pipelines.workflows import finetune
from steps.common.runtime.errors import UserError


def build(name: str, parameters: dict[str, str], template: str = finetune.NAME) -> Workflow:
    """Return the Workflow of one run of the template.

    Args:
        name: of the model; the run's name begins with it.
        parameters: of the template, those that differ from its defaults.
        template: its name.
    """
    return Workflow(
        generate_name=f"{name}-",
        labels={"app.kubernetes.io/part-of": "fineline", "fineline.dev/model": name},
        workflow_template_ref=WorkflowTemplateRef(name=template),
        arguments=parameters,
    )


def installed(connection: Cluster, name: str = finetune.NAME) -> dict[str, Any]:
    """Return the WorkflowTemplate of that name that is installed; early, before any data is sent.

    Raises:
        UserError: Argo or Fineline is not installed in the namespace.
    """
    template = connection.get("workflowtemplates", name)
    if template is None:
        raise UserError(
            f"no WorkflowTemplate {name!r} in namespace {connection.namespace!r} of {connection.context!r}; "
            f"install it: kubectl apply --server-side -n {connection.namespace} -k argo/overlays/kind"
        )
    return template


def submit(connection: Cluster, workflow: Workflow) -> str:
    """Submit the workflow, to Argo's server where ARGO_SERVER names one, else to Kubernetes' API; return the run's name.

    Raises:
        UserError: it was refused.
    """
    body: dict[str, Any] = workflow.to_dict()
    body["metadata"]["namespace"] = connection.namespace
    return str(connection.create(body)["metadata"]["name"])
