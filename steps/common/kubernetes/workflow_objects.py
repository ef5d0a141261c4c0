"""Argo's objects, and a run's Workflow as the steps see it that watch what was bought."""

from datetime import datetime
from typing import Any

from steps.common.kubernetes.resource import Resource
from steps.common.runtime.errors import UserError

ARGO_GROUP, ARGO_VERSION = "argoproj.io", "v1alpha1"
WORKFLOWS = Resource(ARGO_GROUP, "workflows", ARGO_VERSION)
ENDED = {"Succeeded", "Failed", "Error"}
STOPPED = "fineline.dev/stopped-since"  # annotation: why the run was stopped


def find(run: str, namespace: str) -> dict[str, Any] | None:
    """Return a run's Workflow, or None."""
    return WORKFLOWS.read(run, namespace)


def ended_at(workflow: dict[str, Any]) -> float | None:
    """Return when it ended, in seconds since 1970; None while it runs."""
    status = workflow.get("status", {})
    if status.get("phase") not in ENDED or not status.get("finishedAt"):
        return None
    return datetime.fromisoformat(status["finishedAt"]).timestamp()


def main_ended_at(workflow: dict[str, Any]) -> float | None:
    """Return when everything but its exit handler ended, in seconds since 1970; None before that."""
    status = workflow.get("status", {})
    top = (status.get("nodes") or {}).get(workflow["metadata"]["name"], {})
    return datetime.fromisoformat(top["finishedAt"]).timestamp() if top.get("finishedAt") else None


def task_ended(workflow: dict[str, Any], task: str) -> bool:
    """Return whether a task of the run has ended, with its retries."""
    nodes = (workflow.get("status", {}).get("nodes") or {}).values()
    over = ENDED | {"Skipped", "Omitted"}
    return any(node.get("displayName") == task and node.get("phase") in over for node in nodes)


def stop(run: str, namespace: str, why: str = "") -> None:
    """Let a run end, its exit handler included, if it exists, and write down why."""
    annotations = {"metadata": {"annotations": {STOPPED: why}}} if why else {}
    WORKFLOWS.patch(run, {**annotations, "spec": {"shutdown": "Stop"}}, namespace)


def why_stopped(run: str, namespace: str) -> str:
    """Return why the reaper stopped a run; empty if it did not, or if the Workflow cannot be read."""
    try:
        workflow = find(run, namespace) or {}
    except UserError:
        return ""
    return reason_to_stop(workflow)


def reason_to_stop(workflow: dict[str, Any]) -> str:
    """Return why the reaper stopped the run of a Workflow; empty if it did not."""
    return str((workflow.get("metadata", {}).get("annotations") or {}).get(STOPPED, ""))
