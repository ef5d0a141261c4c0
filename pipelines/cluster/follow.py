"""Follows a run on a cluster to its end, on the display of a run on one machine."""

import time
from typing import Any

from pipelines.cluster.argo_nodes import ended, nodes
from pipelines.cluster.argo_server import Cluster
from pipelines.shown.display import Display
from pipelines.shown.task_state import Phase, TaskState
from pipelines.workflows import finetune
from pipelines.workflows.rendered import BUILDERS
from steps.common.runtime.errors import UserError

EVERY_SECONDS = 1.0


def tasks_of(workflow: dict[str, Any]) -> list[str]:
    """Return the tasks of a run, in the order in which they stand in its template and those that this refers to."""
    reference = workflow["spec"].get("workflowTemplateRef", {}).get("name", finetune.NAME)
    build = BUILDERS.get(reference, finetune.build)
    spec = build().to_dict()["spec"]
    return [*_tasks(spec, spec["entrypoint"]), *(_tasks(spec, spec["onExit"]) if "onExit" in spec else [])]


def _tasks(spec: dict[str, Any], entrypoint: str) -> list[str]:
    dag = next(template for template in spec["templates"] if template["name"] == entrypoint)["dag"]
    found: list[str] = []
    for task in dag["tasks"]:
        other = task.get("templateRef")
        found += _tasks(BUILDERS[other["name"]]().to_dict()["spec"], other["template"]) if other else [task["name"]]
    return found


def find_run(connection: Cluster, run: str) -> dict[str, Any]:
    """Return the run's Workflow.

    Raises:
        UserError: there is none of that name.
    """
    workflow = connection.get("workflows", run)
    if workflow is None:
        raise UserError(f"no run {run!r} in namespace {connection.namespace!r}")
    return workflow


def follow(connection: Cluster, run: str) -> dict[str, Any]:
    """Show the run until it has ended, and return its Workflow."""
    known = tasks_of(find_run(connection, run))
    with Display(f"run {run} in {connection.namespace}", known) as display:
        while True:
            workflow = find_run(connection, run)
            for task, (node, progress) in nodes(workflow, known).items():
                display.update(task, node, progress)
            if ended(workflow):
                return workflow
            time.sleep(EVERY_SECONDS)


def all_tasks(workflow: dict[str, Any]) -> dict[str, tuple[TaskState, str]]:
    """Return every task of the run, those that have not begun too."""
    known = tasks_of(workflow)
    begun = nodes(workflow, known)
    return {task: begun.get(task, (TaskState(phase=Phase.PENDING), "")) for task in known}
