"""What Argo says of a workflow, as the nodes that a run on one machine has too."""

from datetime import UTC, datetime
from typing import Any

from pipelines.shown.task_state import Phase, TaskState
from steps.common.kubernetes.step_failure import reason, task_of

ENDED = {"Succeeded", "Failed", "Error"}


def ended(workflow: dict[str, Any]) -> bool:
    """Tell whether the workflow has ended, its exit handler included."""
    return workflow.get("status", {}).get("phase") in ENDED


def nodes(workflow: dict[str, Any], tasks: list[str]) -> dict[str, tuple[TaskState, str]]:
    """Return, for each task that has begun, its node and its progress in words.

    Argo keeps a task that may be retried as a node of type Retry, with its attempts below it under names of their own.
    """
    found: dict[str, tuple[TaskState, str]] = {}
    all_nodes = list((workflow.get("status", {}).get("nodes") or {}).values())
    for node in all_nodes:
        task = node.get("displayName", "")
        if task in tasks:
            found[task] = _node(node), _progress(node)
    # Of a task that is tried again the node says that no further attempt is made; its last attempt says why.
    for attempt in sorted(all_nodes, key=lambda n: n.get("startedAt") or ""):
        task = task_of(attempt.get("displayName", ""))
        if task in found and attempt.get("type") == "Pod" and found[task][0].phase is Phase.FAILED:
            node, progress = found[task]
            found[task] = _node(attempt).model_copy(update={"phase": node.phase, "seconds": node.seconds}), progress
    return found


def outputs(workflow: dict[str, Any], task: str) -> dict[str, str]:
    """Return the output parameters of a task."""
    for node in (workflow.get("status", {}).get("nodes") or {}).values():
        if node.get("displayName") == task and node.get("outputs"):
            return {p["name"]: str(p.get("value", "")) for p in node["outputs"].get("parameters", [])}
    return {}


def _node(node: dict[str, Any]) -> TaskState:
    phase = {"Error": "Failed"}.get(node["phase"], node["phase"])
    code = (node.get("outputs") or {}).get("exitCode") or "0"
    return TaskState(phase=Phase(phase), exit_code=int(code), seconds=_seconds(node), message=_message(node))


def _message(node: dict[str, Any]) -> str:
    if node["phase"] == "Running" and node.get("type") == "Suspend":
        return "waits for an approval"
    return (
        "" if node["phase"] in ("Succeeded", "Running", "Skipped", "Omitted") else reason(str(node.get("message", "")))
    )


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
