"""`fineline submit`, `status`, `logs` and `stop`: a run on a cluster."""

import json
from typing import Any

from rich.console import Console

from pipelines.cluster.argo_nodes import ended, outputs
from pipelines.cluster.argo_server import ClusterConnection
from pipelines.cluster.follow import follow, found, pending
from pipelines.cluster.send_data import with_data_in_reach
from pipelines.cluster.submission import build, installed
from pipelines.cluster.submission import submit as submit_to
from pipelines.commands.plan import as_text
from pipelines.shown.display import MARKS
from pipelines.shown.table import print_table
from pipelines.shown.task_state import Phase
from pipelines.shown.typed_command import command
from recipes.reader import load, override_of
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import duration

REFUSED = 3


def submit(
    connection: ClusterConnection, reference: str, overrides: list[str], *, approval: bool, watch: bool, as_json: bool
) -> int:
    """Submit a recipe; its local data files are sent first.

    Raises:
        RecipeError: the recipe cannot be used.
        UserError: its data cannot be used, or the cluster refuses.
    """
    recipe = load(reference, dict(override_of(text) for text in overrides))
    template = installed(connection)
    sent = with_data_in_reach(connection, recipe, template)
    parameters = {"recipe": as_text(sent), "name": recipe.name, "secrets": recipe.secrets}
    if approval:
        parameters["approval"] = "true"
    run = submit_to(connection, build(recipe.name, parameters))
    if not watch:
        print(json.dumps({"run": run, "namespace": connection.namespace}) if as_json else f"submitted: {run}")
        if not as_json:
            print(f"follow it: {command(f'fineline status {run} -n {connection.namespace} --watch')}")
        return 0
    return end(connection, follow(connection, run), as_json=as_json)


def status(connection: ClusterConnection, run: str, *, watch: bool, as_json: bool) -> int:
    """Show one run, or list all."""
    if not run:
        return _list(connection, as_json=as_json)
    if watch:
        return end(connection, follow(connection, run), as_json=as_json)
    workflow = found(connection, run)
    if as_json:
        print(json.dumps(result_of(workflow), indent=2))
        return 0
    rows = [
        (MARKS[node.phase], task, duration(node.seconds) if node.seconds else "", progress or node.message)
        for task, (node, progress) in pending(workflow).items()
    ]
    print_table(f"{run}: {workflow.get('status', {}).get('phase', 'Pending')}", ["", "step", "took", ""], rows)
    return end(connection, workflow, as_json=False) if ended(workflow) else 0


def logs(connection: ClusterConnection, run: str, step: str) -> int:
    """Print the logs of a run's steps, or of one.

    Raises:
        UserError: there is no such run or step, or its pods are gone.
    """
    from pipelines.cluster.logs import pods_of, print_log

    workflow = found(connection, run)
    pods = pods_of(workflow, step)
    if not pods:
        raise UserError(f"run {run} has no log of {step or 'any step'}")
    for task, pod in pods:
        print_log(connection, task, pod)
    return 0


def stop(connection: ClusterConnection, run: str) -> int:
    """Stop a run; its exit handler still gives back what it took."""
    workflow = found(connection, run)
    if ended(workflow):
        raise UserError(f"run {run} has ended already: {workflow['status']['phase']}")
    connection.stop(run)
    print(f"{run} is told to stop; what it took is given back")
    return 0


def result_of(workflow: dict[str, Any]) -> dict[str, Any]:
    """Return what a run came to, as far as it went."""
    state = workflow.get("status", {})
    result: dict[str, Any] = {
        "run": workflow["metadata"]["name"],
        "phase": state.get("phase", "Pending"),
        "message": _message(workflow),
    }
    told = {
        "checked": outputs(workflow, "check").get("verdict"),
        "quote": outputs(workflow, "plan").get("quote"),
        "tuned": outputs(workflow, "tune").get("summary"),
        "verdict": outputs(workflow, "evaluate").get("verdict"),
        "version": outputs(workflow, "register").get("version") or outputs(workflow, "restore").get("version"),
        "url": outputs(workflow, "rollout").get("url"),
        "model": outputs(workflow, "rollout").get("model"),
    }
    return result | {key: value for key, value in told.items() if value}


def _message(workflow: dict[str, Any]) -> str:
    """Return the first failed step's last words, where a step failed; else what Argo says of the run."""
    failed = [(task, n.message) for task, (n, _) in pending(workflow).items() if n.phase is Phase.FAILED and n.message]
    return f"{failed[0][0]}: {failed[0][1]}" if failed else str(workflow.get("status", {}).get("message", ""))


def _list(connection: ClusterConnection, *, as_json: bool) -> int:
    found = sorted(connection.runs(), key=lambda w: w["metadata"]["creationTimestamp"], reverse=True)
    if as_json:
        print(json.dumps([result_of(workflow) for workflow in found], indent=2))
    elif not found:
        print(f"no runs in namespace {connection.namespace}; begin with: {command('fineline submit')}")
    else:
        rows = [
            (
                w["metadata"]["name"],
                w["metadata"]["creationTimestamp"],
                w.get("status", {}).get("phase", "Pending"),
                outputs(w, "register").get("version", ""),
            )
            for w in found
        ]
        print_table(f"runs in {connection.namespace}", ["run", "submitted", "phase", "version"], rows)
    return 0


def end(connection: ClusterConnection, workflow: dict[str, Any], *, as_json: bool) -> int:
    """Say what a run came to, and return its exit code."""
    result = result_of(workflow)
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        console = Console(highlight=False)
        for key in ("checked", "quote", "tuned", "verdict"):
            if key in result:
                console.print(f"{key}: {result[key]}", markup=False, soft_wrap=True)
        if not outputs(workflow, "restore"):
            if "version" in result:
                console.print(f"version {result['version']} is registered", soft_wrap=True)
        elif result["phase"] == "Succeeded":
            console.print(f"version {result['version']} serves again, and is champion", soft_wrap=True)
        if "url" in result:
            console.print(f"served in the cluster at {result['url']}", soft_wrap=True)
            forward = f"kubectl port-forward -n {connection.namespace} service/{result['model']} 8360:80"
            console.print(f"try it from here: {forward}", markup=False, soft_wrap=True)
        if result["phase"] != "Succeeded":
            run = result["run"]
            ending = "refused" if _code(workflow) == REFUSED else result["phase"].lower()
            console.print(f"{ending}: {result['message']}", markup=False, soft_wrap=True)
            console.print(f"logs: {command(f'fineline logs {run} -n {connection.namespace}')}", soft_wrap=True)
    return _code(workflow)


def _code(workflow: dict[str, Any]) -> int:
    """The step's own exit code where one refused or was given a mistake; a fault else."""
    if workflow["status"]["phase"] == "Succeeded":
        return 0
    codes = {node.exit_code for task, (node, _) in pending(workflow).items() if node.exit_code}
    return min(codes & {2, REFUSED}, default=1)
