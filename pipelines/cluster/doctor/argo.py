"""Checks Kubernetes, Argo, and Fineline's templates."""

import re
from typing import Any

from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import INSTALL, Finding, State, unknown
from pipelines.workflows.rendered import BUILDERS, FOLDERS
from steps.common.kubernetes import client
from steps.common.kubernetes.workflow_objects import ARGO_GROUP, ARGO_VERSION

KINDS = ("workflows", "workflowtemplates", "cronworkflows", "workflowtaskresults")
OLDEST = (1, 30)  # the first with ValidatingAdmissionPolicies on by default (KEP-3488)
ARGO_DOCS = "https://argo-workflows.readthedocs.io/en/latest/quick-start/"


def cluster(connection: Connection) -> list[Finding]:
    """Check Kubernetes' version, and that the namespace exists."""
    found = [kubernetes(client.server_version(), connection.context)]
    if not questions.has_namespace(connection):
        name = connection.namespace
        found.append(Finding("namespace", State.MISSING, f"no namespace {name!r}", INSTALL))
    return found


def kubernetes(version: str, context: str) -> Finding:
    """Check that a version, such as v1.31.2-gke.100, has what the pods of served models need."""
    text = f"Kubernetes {version} at {context}"
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        why = "it has no ValidatingAdmissionPolicies, which limit what users and steps may start"
        return Finding("cluster", State.MISSING, f"{text}: {why}", f"upgrade it to 1.{OLDEST[1]} or later")
    return Finding("cluster", State.OK, text)


def definitions(_connection: Connection) -> list[Finding]:
    """Check that Argo's kinds are installed."""
    served = client.resources(ARGO_GROUP, ARGO_VERSION)
    if missing := [kind for kind in KINDS if kind not in served]:
        text = f"the cluster has no {', '.join(missing)}"
        return [Finding("Argo", State.MISSING, text, f"install Argo Workflows: {ARGO_DOCS}")]
    return [Finding("Argo", State.OK, "its kinds are installed")]


def controller(connection: Connection) -> list[Finding]:
    """Check that a workflow controller picks up runs.

    A Workflow that has a phase was picked up by one. If there is none yet, look for the controller's Deployment.
    """
    with questions.if_allowed():
        if any(run.get("status", {}).get("phase") for run in connection.runs()):
            return [Finding("Argo's controller", State.OK, "it has picked up runs in this namespace")]
    with questions.if_allowed():
        found = [
            deployment
            for deployment in client.apps().list_deployment_for_all_namespaces().items
            if deployment.metadata.name.endswith("workflow-controller")
        ]
        if not found:
            text = "no Deployment *workflow-controller in any namespace, and no run has been picked up yet"
            return [
                Finding("Argo's controller", State.NOTE, text, f"unless it runs elsewhere, install it: {ARGO_DOCS}")
            ]
        if not any(deployment.status.available_replicas for deployment in found):
            where = found[0].metadata
            remedy = f"kubectl -n {where.namespace} describe deployment {where.name}"
            return [Finding("Argo's controller", State.MISSING, "it is not running", remedy)]
        image = found[0].spec.template.spec.containers[0].image
        return [Finding("Argo's controller", State.OK, f"runs {image}")]
    return [unknown("Argo's controller", "Deployments in all namespaces")]


def templates(connection: Connection) -> list[Finding]:
    """Check that the templates are installed, as this version renders them."""
    with questions.if_allowed():
        return [_templates(connection)]
    return [unknown("templates", "WorkflowTemplates")]


def _templates(connection: Connection) -> Finding:
    missing, other = [], []
    for name, build in BUILDERS.items():
        body = build().to_dict()
        if body["kind"] != "WorkflowTemplate":
            continue
        installed = connection.get("workflowtemplates", name)
        if installed is None and name in FOLDERS:
            continue  # it belongs to a component, which not every overlay has
        if installed is None:
            missing.append(name)
        elif not _contains(installed["spec"], body["spec"]):
            other.append(name)
    if missing:
        return Finding("templates", State.MISSING, f"no WorkflowTemplate {', '.join(missing)}", INSTALL)
    if other:
        return Finding("templates", State.NOTE, f"not as this version renders them: {', '.join(other)}", INSTALL)
    return Finding("templates", State.OK, "installed, of this version")


def _contains(installed: Any, rendered: Any) -> bool:
    """Return whether everything that this version renders is installed; an overlay adds fields and sets the images."""
    if isinstance(rendered, dict) and isinstance(installed, dict):
        return all(
            key == "image" or (key in installed and _contains(installed[key], value)) for key, value in rendered.items()
        )
    if isinstance(rendered, list) and isinstance(installed, list):
        return len(rendered) == len(installed) and all(map(_contains, installed, rendered))
    return bool(rendered == installed)
