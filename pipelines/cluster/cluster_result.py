"""The result of a run on a cluster: as data for scripts, and in words for people."""

import json
from typing import Any

from rich.console import Console

from pipelines.cluster.argo_nodes import outputs
from pipelines.cluster.argo_server import ClusterConnection
from pipelines.cluster.follow import all_tasks
from pipelines.shown.shell_command import shell_command
from pipelines.shown.task_state import Phase
from steps.common.runtime.errors import GATE_REFUSED, INTERRUPTED, USER_ERROR


def result_of(workflow: dict[str, Any]) -> dict[str, Any]:
    """Return the run's results so far."""
    state = workflow.get("status", {})
    result: dict[str, Any] = {
        "run": workflow["metadata"]["name"],
        "phase": state.get("phase", "Pending"),
        "message": why_failed(workflow),
    }
    optional = {
        "checked": outputs(workflow, "check").get("verdict"),
        "quote": outputs(workflow, "plan").get("quote"),
        "tuned": outputs(workflow, "tune").get("summary"),
        "verdict": outputs(workflow, "evaluate").get("verdict"),
        "version": outputs(workflow, "register").get("version") or outputs(workflow, "restore").get("version"),
        "url": outputs(workflow, "rollout").get("url"),
        "model": outputs(workflow, "rollout").get("model"),
        "pruned": outputs(workflow, "prune").get("freed"),
    }
    return result | {key: value for key, value in optional.items() if value}


def print_result(connection: ClusterConnection, workflow: dict[str, Any], *, as_json: bool) -> int:
    """Print the result of an ended run, and return the command's exit code."""
    result = result_of(workflow)
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for line in _lines(connection, workflow, result):
            console.print(line, markup=False)
    return exit_code_of(workflow)


def _lines(connection: ClusterConnection, workflow: dict[str, Any], result: dict[str, Any]) -> list[str]:
    succeeded = result["phase"] == "Succeeded"
    lines = [f"{key}: {result[key]}" for key in ("checked", "quote", "tuned", "verdict") if key in result]
    if "version" in result and not outputs(workflow, "restore"):
        lines.append(f"version {result['version']} is registered")
    elif "version" in result and succeeded:
        lines.append(f"version {result['version']} is the champion and is served again")
    if "pruned" in result:
        lines += result["pruned"].splitlines()
    if "url" in result:
        forward = f"kubectl port-forward -n {connection.namespace} service/{result['model']} 8360:80"
        lines += [f"served in the cluster at {result['url']}", f"to try it from this machine: {forward}"]
    if not succeeded:
        ending = "refused" if exit_code_of(workflow) == GATE_REFUSED else result["phase"].lower()
        logs = shell_command(f"fineline logs {result['run']} -n {connection.namespace}")
        lines += [f"{ending}: {result['message']}", f"logs: {logs}"]
    return lines


def why_failed(workflow: dict[str, Any]) -> str:
    """Return the message of the first failed step, else Argo's message about the run."""
    failed = [(t, s.message) for t, (s, _) in all_tasks(workflow).items() if s.phase is Phase.FAILED and s.message]
    return f"{failed[0][0]}: {failed[0][1]}" if failed else str(workflow.get("status", {}).get("message", ""))


def exit_code_of(workflow: dict[str, Any]) -> int:
    """Return 0 for success, the failed step's exit code for a user mistake, a refused version or an interruption, else 1."""
    if workflow["status"]["phase"] == "Succeeded":
        return 0
    codes = {state.exit_code for state, _ in all_tasks(workflow).values() if state.exit_code}
    return min(codes & {USER_ERROR, GATE_REFUSED, INTERRUPTED}, default=1)
