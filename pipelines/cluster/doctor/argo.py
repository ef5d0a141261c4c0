"""Argo, and Fineline's templates in the namespace."""

import re
from typing import Any

from pipelines.cluster.connection import GROUP, Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import Finding, State, unknown
from pipelines.workflows.rendered import BUILDERS, FOLDERS

KINDS = ("workflows", "workflowtemplates", "cronworkflows", "workflowtaskresults")
OLDEST = (1, 29)  # the first with containers that start before, and outlive, the others (KEP-753), as on by default
INSTALL = "https://argo-workflows.readthedocs.io/en/latest/quick-start/"


def cluster(connection: Connection) -> list[Finding]:
    """Tell which Kubernetes it is, and whether the namespace is there."""
    found = [kubernetes(questions.version(), connection.context)]
    if not questions.has_namespace(connection):
        name = connection.namespace
        found.append(Finding("namespace", State.MISSING, f"no namespace {name!r}", f"kubectl create namespace {name}"))
    return found


def kubernetes(version: str, context: str) -> Finding:
    """Tell whether that version, such as v1.31.2-gke.100, has what the served models' pods need."""
    text = f"Kubernetes {version} at {context}"
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        why = "the pods of served models have sidecars that it does not know"
        return Finding("cluster", State.MISSING, f"{text}: {why}", f"update it to 1.{OLDEST[1]} or later")
    return Finding("cluster", State.OK, text)


def definitions(connection: Connection) -> list[Finding]:
    """Tell whether Argo's kinds are there, and whether the API server checks their fields."""
    served = questions.kinds_of(GROUP, "v1alpha1")
    if missing := [kind for kind in KINDS if kind not in served]:
        return [
            Finding("Argo", State.MISSING, f"the cluster does not know {', '.join(missing)}", f"install it: {INSTALL}")
        ]
    return [Finding("Argo", State.OK, "its kinds are there")]


def controller(connection: Connection) -> list[Finding]:
    """Tell whether something takes up what is submitted.

    Any Workflow that has a phase was taken up; where there is none yet, the controller's Deployment is looked for.
    """
    from kubernetes import client

    with questions.if_allowed():
        if any(run.get("status", {}).get("phase") for run in connection.runs()):
            return [Finding("Argo's controller", State.OK, "it has taken up runs of this namespace")]
    with questions.if_allowed():
        found = [
            deployment
            for deployment in client.AppsV1Api().list_deployment_for_all_namespaces().items
            if deployment.metadata.name.endswith("workflow-controller")
        ]
        if not found:
            text = "no Deployment *workflow-controller in any namespace, and no run was taken up yet"
            return [Finding("Argo's controller", State.NOTE, text, f"where it does not run elsewhere: {INSTALL}")]
        if not any(deployment.status.available_replicas for deployment in found):
            where = found[0].metadata
            look = f"kubectl -n {where.namespace} describe deployment {where.name}"
            return [Finding("Argo's controller", State.MISSING, "is not running", look)]
        image = found[0].spec.template.spec.containers[0].image
        return [Finding("Argo's controller", State.OK, f"runs {image}")]
    return [unknown("Argo's controller", "Deployments of all namespaces")]


def templates(connection: Connection) -> list[Finding]:
    """Tell whether the templates are installed, and as this version renders them."""
    apply = f"kubectl apply --server-side -n {connection.namespace} -k argo/overlays/kind  # or aks, eks, gke"
    with questions.if_allowed():
        return [_templates(connection, apply)]
    return [unknown("templates", "WorkflowTemplates")]


def _templates(connection: Connection, apply: str) -> Finding:
    missing, other = [], []
    for name, build in BUILDERS.items():
        body = build().to_dict()
        if body["kind"] != "WorkflowTemplate":
            continue
        installed = connection.get("workflowtemplates", name)
        if installed is None and name in FOLDERS:
            continue  # of a component that not every overlay has
        if installed is None:
            missing.append(name)
        elif not _within(body["spec"], installed["spec"]):
            other.append(name)
    if missing:
        return Finding("templates", State.MISSING, f"no WorkflowTemplate {', '.join(missing)}", apply)
    if other:
        return Finding("templates", State.NOTE, f"not as this version renders them: {', '.join(other)}", apply)
    return Finding("templates", State.OK, "installed, of this version")


def _within(wanted: Any, installed: Any) -> bool:
    """Tell whether all that this version renders is there; an overlay adds to it, and says where the images are."""
    if isinstance(wanted, dict) and isinstance(installed, dict):
        return all(
            key == "image" or (key in installed and _within(value, installed[key])) for key, value in wanted.items()
        )
    if isinstance(wanted, list) and isinstance(installed, list):
        return len(wanted) == len(installed) and all(map(_within, wanted, installed))
    return bool(wanted == installed)
