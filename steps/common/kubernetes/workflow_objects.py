"""The Workflow of a run, as the steps that watch over what is bought see it."""

from datetime import datetime
from typing import Any

from steps.common.kubernetes import api
from steps.common.runtime.errors import UserError

ARGO, VERSION, PLURAL = "argoproj.io", "v1alpha1", "workflows"
ENDED = {"Succeeded", "Failed", "Error"}
STOPPED = "fineline.dev/stopped-since"  # the annotation that says what for


def find(run: str, namespace: str) -> dict[str, Any] | None:
    """Return a run's Workflow, or None."""
    place = (ARGO, VERSION, namespace, PLURAL, run)
    return api.if_there(lambda: dict(api.custom().get_namespaced_custom_object(*place)))


def ended_at(workflow: dict[str, Any]) -> float | None:
    """Return when it ended, in seconds since 1970; None while it runs."""
    status = workflow.get("status", {})
    if status.get("phase") not in ENDED or not status.get("finishedAt"):
        return None
    return datetime.fromisoformat(status["finishedAt"]).timestamp()


def main_ended_at(workflow: dict[str, Any]) -> float | None:
    """Return when all but its exit handler ended, in seconds since 1970; None before that."""
    status = workflow.get("status", {})
    top = status.get("nodes", {}).get(workflow["metadata"]["name"], {})
    return datetime.fromisoformat(top["finishedAt"]).timestamp() if top.get("finishedAt") else None


def stop(run: str, namespace: str, why: str) -> None:
    """Let a run that is still there end, its exit handler included, and write down why."""
    body = {"metadata": {"annotations": {STOPPED: why}}, "spec": {"shutdown": "Stop"}}
    place = (ARGO, VERSION, namespace, PLURAL, run)
    api.if_there(lambda: api.custom().patch_namespaced_custom_object(*place, body))


def why_stopped(run: str, namespace: str) -> str:
    """Return what a run was stopped for; empty where nobody of ours has stopped it, or that cannot be told."""
    try:
        workflow = find(run, namespace) or {}
    except UserError:
        return ""
    return str((workflow.get("metadata", {}).get("annotations") or {}).get(STOPPED, ""))
