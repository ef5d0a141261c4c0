"""Follows a run on a cluster until it ends, on the same display as a run on one machine."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

from pipelines.cluster.argo_nodes import ended, step_pods, task_states
from pipelines.cluster.argo_server import ClusterConnection
from pipelines.shown.display import PENDING, Display
from pipelines.shown.shell_command import shell_command
from pipelines.shown.task_state import Phase, TaskState
from pipelines.workflows import finetune
from pipelines.workflows.rendered import BUILDERS
from steps.common.kubernetes.api_errors import api_errors
from steps.common.kubernetes.wait import ended_unreported, pod_events, why_not_started
from steps.common.runtime.errors import UserError

POLL_SECONDS = 1.0
# Argo's controller picks up a Workflow within a second or two.
CONTROLLER_SECONDS = 15.0
# Between two reads of the pods that have not started.
PODS_SECONDS = 5.0
# Argo's executor reports the end of a step within seconds, and stores the evaluation's page.
REPORT_SECONDS = 30.0
RUN_LABEL = "workflows.argoproj.io/workflow"


def tasks_of(workflow: dict[str, Any]) -> list[str]:
    """Return the tasks of a run in the order of its template, those of the templates that it refers to included."""
    return list(_tasks_of_template(workflow["spec"].get("workflowTemplateRef", {}).get("name", finetune.NAME)))


@cache
def _tasks_of_template(name: str) -> tuple[str, ...]:
    spec = BUILDERS.get(name, finetune.build)().to_dict()["spec"]
    return (*_tasks(spec, spec["entrypoint"]), *(_tasks(spec, spec["onExit"]) if "onExit" in spec else ()))


def _tasks(spec: dict[str, Any], entrypoint: str) -> list[str]:
    dag = next(template for template in spec["templates"] if template["name"] == entrypoint)["dag"]
    found: list[str] = []
    for task in dag["tasks"]:
        other = task.get("templateRef")
        found += _tasks(BUILDERS[other["name"]]().to_dict()["spec"], other["template"]) if other else [task["name"]]
    return found


def find_run(connection: ClusterConnection, run: str) -> dict[str, Any]:
    """Return the run's Workflow.

    Raises:
        UserError: there is no such run.
    """
    workflow = connection.get("workflows", run)
    if workflow is None:
        runs = shell_command(f"fineline status -n {connection.namespace}")
        raise UserError(f"no run {run!r} in namespace {connection.namespace!r} ('{runs}' lists the runs)")
    return workflow


def all_tasks(workflow: dict[str, Any]) -> dict[str, tuple[TaskState, str]]:
    """Return the state and the progress of every task of the run, those that have not begun included."""
    tasks = tasks_of(workflow)
    begun = task_states(workflow, tasks)
    return {task: begun.get(task, (PENDING, "")) for task in tasks}


def follow(connection: ClusterConnection, run: str) -> dict[str, Any]:
    """Show the run until it has ended, and return its Workflow.

    Raises:
        UserError: there is no such run, or the cluster is unreachable.
    """
    tasks = tasks_of(find_run(connection, run))
    with Display(f"run {run} in {connection.namespace}", tasks) as display:
        watch = RunWatch(connection, tasks, display)
        while not ended(workflow := find_run(connection, run)):
            watch.show(workflow)
            time.sleep(POLL_SECONDS)
        watch.show(workflow)
        return workflow


class RunWatch:
    """Shows a run as it is read again and again, and why it or one of its steps does not start."""

    def __init__(
        self,
        connection: ClusterConnection,
        tasks: list[str],
        display: Display,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to watch.

        Args:
            connection: the cluster.
            tasks: the run's tasks.
            display: where to show it.
            clock: returns seconds.
        """
        self._connection, self._tasks, self._display, self._clock = connection, tasks, display, clock
        self._began = clock()
        self._read_pods_at = 0.0
        self._problems: dict[str, str] = {}
        self._unreported_since: dict[str, float] = {}  # by pod

    def show(self, workflow: dict[str, Any]) -> None:
        """Show the run as it is now."""
        self._display.note(self._why_run_waits(workflow))
        problems = self._pod_problems(workflow)
        for task, (state, progress) in task_states(workflow, self._tasks).items():
            why = problems.get(task, "") if state.phase in (Phase.PENDING, Phase.RUNNING) else ""
            self._display.update(task, state.model_copy(update={"message": why}) if why else state, progress)

    def _why_run_waits(self, workflow: dict[str, Any]) -> str:
        status = workflow.get("status", {})
        phase = status.get("phase", "")
        if phase == "Pending":
            # For example the controller's limit of parallel workflows.
            return str(status.get("message", ""))
        waited = self._clock() - self._began
        if phase or waited < CONTROLLER_SECONDS:
            return ""
        doctor = shell_command(f"fineline doctor -n {self._connection.namespace}")
        return (
            f"no workflow controller has picked up this run in {CONTROLLER_SECONDS:.0f} s; check that Argo's "
            f"workflow-controller is running: kubectl get pods -A -l app=workflow-controller; or run: {doctor}"
        )

    def _pod_problems(self, workflow: dict[str, Any]) -> dict[str, str]:
        """Return, by task, why its pod does not start, or that its end is not reported.

        Where pods cannot be read, Argo's own message has to do.
        """
        pending = {pod: task for task, pod in step_pods(workflow, self._tasks, phase="Pending")}
        running = {pod: task for task, pod in step_pods(workflow, self._tasks, phase="Running")}
        now = self._clock()
        if (pending or running) and now - self._read_pods_at < PODS_SECONDS:
            return self._problems
        self._read_pods_at, self._problems = now, {}
        if not pending and not running:
            return {}
        space = self._connection.namespace
        label = f"{RUN_LABEL}={workflow['metadata']['name']}"
        try:
            core = self._connection.core
            with api_errors():
                pods = core.list_namespaced_pod(space, label_selector=label).items
            for pod in pods:
                name = pod.metadata.name
                if name in pending and (why := why_not_started([pod], pod_events(core, space, [pod]))):
                    self._problems[pending[name]] = why
                if name in running and (why := self._why_unreported(pod, now)):
                    self._problems[running[name]] = why
        except UserError:  # Argo Server's token without a kubeconfig, or an account that may not list pods
            return {}
        return self._problems

    def _why_unreported(self, pod: Any, now: float) -> str:
        """Return what to check if a step's end has not been reported for half a minute."""
        name = pod.metadata.name
        if not ended_unreported(pod):
            self._unreported_since.pop(name, None)
            return ""
        waited = now - self._unreported_since.setdefault(name, now)
        if waited < REPORT_SECONDS:
            return ""
        space = self._connection.namespace
        doctor, logs = shell_command(f"fineline doctor -n {space}"), f"kubectl logs {name} -c wait -n {space}"
        return (
            f"the step has ended, but Argo's executor in its pod has not reported it for {REPORT_SECONDS:.0f} s; check that "
            f"the network policies let it reach the Kubernetes API: {doctor}; what it says: {logs}"
        )
