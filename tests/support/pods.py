"""A workflow task as a pod: the exact container of its template, started as Argo would start it.

It replaces the process of a run on one machine, so the same code walks the DAG. This module does what Argo's executor does
around the container: it writes the inputs and reads the outputs.
"""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hera.workflows import WorkflowTemplate

import pipelines.machine.execute
from pipelines.machine.execute import Execution
from pipelines.machine.local_workflow import Script, read
from pipelines.machine.run_record import INPUTS, OUTPUTS, Run, new_run
from pipelines.shown.task_state import Phase, TaskState
from pipelines.workflows.step_pods.containers import POD_SECURITY, SECURITY
from steps.common.kubernetes.step_failure import reason
from tests.support.argo_controller import create_run, start_step
from tests.support.kubectl import get, kubectl


def restricted(pod: dict[str, Any]) -> dict[str, Any]:
    """Return a helper pod as the namespace's Pod Security Standard admits it: it runs as the steps' user."""
    security = SECURITY.model_dump(by_alias=True, exclude_none=True)
    containers = [{**one, "securityContext": security} for one in pod["spec"]["containers"]]
    whole = POD_SECURITY.model_dump(by_alias=True, exclude_none=True)
    return {**pod, "spec": {**pod["spec"], "securityContext": whole, "containers": containers}}


class TaskPod:
    """A task that runs as a pod."""

    namespace = ""
    template: WorkflowTemplate

    def __init__(self, run: Run, task: str, script: Script, inputs: dict[str, str], _folders: dict[str, Path]) -> None:
        self.script = script
        self.folder = run.task_folder(task)
        self.folder.mkdir(parents=True, exist_ok=True)
        parameters = json.dumps([{"name": name, "value": value} for name, value in inputs.items()])
        (self.folder / INPUTS).write_text(parameters)
        self.started = time.monotonic()
        self.name = f"{run.name}-{task}"
        create_run(run.name, self.namespace, str(self.template.name))
        # This container keeps /tmp alive until the outputs have been read.
        keeper = {
            "name": "keeper",
            "image": "fineline-control:0.1.0",
            "command": ["sleep", "3600"],
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            "securityContext": SECURITY.model_dump(by_alias=True, exclude_none=True),
        }
        start_step(self.name, self.namespace, run.name, self.template.to_dict()["spec"], script.name, inputs, keeper)

    def final_state(self) -> TaskState | None:
        status = get("pod", self.name, self.namespace)["status"]
        found = {c["name"]: c["state"] for c in status.get("containerStatuses", [])}
        ended = found.get("main", {}).get("terminated")
        if ended is None:
            assert time.monotonic() - self.started < 1800, status
            time.sleep(0.5)
            return None
        seconds = time.monotonic() - self.started
        log = kubectl("logs", self.name, "-c", "main", "-n", self.namespace).stdout
        (self.folder / "log.txt").write_text(log)
        folder = self.folder / OUTPUTS / "parameters"
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in self.script.outputs.items():
            read = ["exec", self.name, "-c", "keeper", "-n", self.namespace, "--", "cat", path]
            done = kubectl(*read, check=False)
            if done.returncode == 0:
                (folder / name).write_text(done.stdout)
        kubectl("delete", "pod", self.name, "-n", self.namespace, "--wait=false")
        code = ended["exitCode"]
        told = f"main: Error (exit code {code}): {ended.get('message', '')}"
        phase = Phase.FAILED if code else Phase.SUCCEEDED
        return TaskState(phase=phase, exit_code=code, seconds=seconds, message=reason(told) if code else "")

    def progress(self) -> str:
        return ""

    def signal(self, _number: int) -> None:
        kubectl("delete", "pod", self.name, "-n", self.namespace, "--wait=false")


def run_as_pods(namespace: str, template: WorkflowTemplate, name: str, parameters: dict[str, str]) -> Run:
    """Run a template with each task as a pod, and return the run once it has ended.

    Args:
        namespace: of the pods.
        template: what is run.
        name: of the run, which begins with it.
        parameters: those that differ from the template's defaults.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskPod, "namespace", namespace)
        patch.setattr(TaskPod, "template", template, raising=False)
        patch.setattr(pipelines.machine.execute, "TaskProcess", TaskPod)
        machine = read(template.to_dict())
        run = new_run(name, machine.name, {**machine.parameters, **parameters})
        return Execution(machine, run, {}, lambda *_: None).execute()
