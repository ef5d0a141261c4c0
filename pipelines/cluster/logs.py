"""The logs of a run's pods."""

import re
from typing import Any

from pipelines.cluster.argo_server import ClusterConnection
from pipelines.cluster.follow import tasks_of
from steps.common.kubernetes.errors import api_errors
from steps.common.runtime.errors import UserError

# What Argo's executor, which starts the step, writes between the step's own lines.
OF_ARGO = re.compile(r"^time=\S+ level=\w+ .*\bargo=true\b|^Error: exit status \d+$")


def pods_of(workflow: dict[str, Any], step: str) -> list[tuple[str, str]]:
    """Return task and pod of every attempt of the run's steps, or of one step, in the order of their start."""
    known, found = set(tasks_of(workflow)), []
    for node in (workflow.get("status", {}).get("nodes") or {}).values():
        task = str(node.get("displayName", "")).partition("(")[0]
        if node.get("type") == "Pod" and task in known and step in ("", task):
            found.append((node.get("startedAt") or "", task, _pod_name(workflow, node)))
    return [(task, pod) for _, task, pod in sorted(found)]


def print_log(connection: ClusterConnection, task: str, pod: str) -> None:
    """Print one pod's log, each line behind its step's name.

    Raises:
        UserError: the pod is gone.
    """
    try:
        with api_errors():
            text = connection.core.read_namespaced_pod_log(pod, connection.namespace, container="main")
    except UserError as error:
        text = f"(no log: {error})"
    for line in str(text).splitlines():
        if not OF_ARGO.search(line):
            print(f"{task:<10} {line}")


def _pod_name(workflow: dict[str, Any], node: dict[str, Any]) -> str:
    """Return the pod's name: workflow, template and the number that ends the node's id (Argo's version 2 of pod names)."""
    name = workflow["metadata"]["name"]
    if node["id"] == name:
        return str(name)
    return f"{name}-{node['templateName']}-{node['id'].rpartition('-')[2]}"
