"""Reads the status of a Workflow: its nodes as the task states that a run on one machine has too."""

from datetime import UTC, datetime
from typing import Any

from pipelines.shown.task_state import Phase, TaskState
from steps.common.kubernetes.step_failure import reason, task_of

ENDED = {"Succeeded", "Failed", "Error"}
QUIET = {"Succeeded", "Running", "Skipped", "Omitted"}  # phases in which Argo's message says nothing of interest


def ended(workflow: dict[str, Any]) -> bool:
    """Return whether the workflow has ended, including its exit handler."""
    return workflow.get("status", {}).get("phase") in ENDED


def task_states(workflow: dict[str, Any], tasks: list[str]) -> dict[str, tuple[TaskState, str]]:
    """Return the state and the progress of each task that has begun.

    Argo represents a task with retries as a node of type Retry, whose attempts are nodes of their own: `pull(0)`.
    """
    found: dict[str, tuple[TaskState, str]] = {}
    for node in _nodes(workflow):
        task = node.get("displayName", "")
        if task in tasks:
            found[task] = _state(node), _progress(node)
    # The message of a failed Retry node is that no attempts are left; the last attempt has the reason. Likewise a Retry
    # node is Running while the pod of its attempt has not started.
    for attempt in sorted(_nodes(workflow), key=lambda n: n.get("startedAt") or ""):
        task = task_of(attempt.get("displayName", ""))
        if task not in found or attempt.get("type") != "Pod":
            continue
        state, progress = found[task]
        if state.phase is Phase.FAILED:
            of_task = {"phase": state.phase, "seconds": state.seconds}
            found[task] = _state(attempt).model_copy(update=of_task), progress
        elif state.phase is Phase.RUNNING and attempt.get("phase") == "Pending":
            found[task] = _state(attempt), progress
    return found


def outputs(workflow: dict[str, Any], task: str) -> dict[str, str]:
    """Return the output parameters of a task."""
    for node in _nodes(workflow):
        if node.get("displayName") == task and node.get("outputs"):
            return {p["name"]: str(p.get("value", "")) for p in node["outputs"].get("parameters", [])}
    return {}


def step_pods(workflow: dict[str, Any], tasks: list[str], *, phase: str = "") -> list[tuple[str, str]]:
    """Return task and pod of every attempt of the tasks, in the order in which they started.

    Args:
        workflow: the run's Workflow.
        tasks: the tasks whose pods are wanted.
        phase: only nodes in this phase of Argo's; empty: in any.
    """
    found = []
    for node in _nodes(workflow):
        task = task_of(str(node.get("displayName", "")))
        if node.get("type") == "Pod" and task in tasks and phase in ("", node.get("phase")):
            found.append((node.get("startedAt") or "", task, _pod_name(workflow, node)))
    return [(task, pod) for _, task, pod in sorted(found)]


def _nodes(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return list((workflow.get("status", {}).get("nodes") or {}).values())


def _pod_name(workflow: dict[str, Any], node: dict[str, Any]) -> str:
    """Return the pod's name, WORKFLOW-TEMPLATE-NUMBER, where the number is the end of the node's ID.

    This is version 2 of Argo's pod names: https://github.com/argoproj/argo-workflows/blob/v3.5.0/workflow/util/pod_name.go
    """
    name = str(workflow["metadata"]["name"])
    return name if node["id"] == name else f"{name}-{node['templateName']}-{node['id'].rpartition('-')[2]}"


def _state(node: dict[str, Any]) -> TaskState:
    phase = {"Error": "Failed"}.get(node["phase"], node["phase"])
    code = (node.get("outputs") or {}).get("exitCode") or "0"
    return TaskState(phase=Phase(phase), exit_code=int(code), seconds=_seconds(node), message=_message(node))


def _message(node: dict[str, Any]) -> str:
    if node["phase"] == "Running" and node.get("type") == "Suspend":
        return "waiting for an approval"
    return "" if node["phase"] in QUIET else reason(str(node.get("message", "")))


def _seconds(node: dict[str, Any]) -> float:
    started, finished = _time(node.get("startedAt")), _time(node.get("finishedAt"))
    if started is None:
        return 0.0
    return max(0.0, ((finished or datetime.now(UTC)) - started).total_seconds())


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _progress(node: dict[str, Any]) -> str:
    done, _, total = str(node.get("progress", "")).partition("/")
    return f"{done}/{total}" if node["phase"] == "Running" and total not in ("", "0", "1") else ""
