"""Who follows a run that does not start is told why: no controller takes it up, or a step's image cannot be pulled."""

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.workflows import finetune
from tests.support.commands import begin
from tests.support.kubectl import kubectl

SPACE = "fineline-follow"
# A controller that has not this name leaves the Workflow alone.
NOBODYS = {"workflows.argoproj.io/controller-instanceid": "nobody"}


@pytest.fixture(scope="module")
def space(crds: None) -> Iterator[str]:
    kubectl("delete", "namespace", SPACE, "--ignore-not-found")
    kubectl("create", "namespace", SPACE)
    yield SPACE
    kubectl("delete", "namespace", SPACE, "--timeout=120s")


def workflow(name: str, **status: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": name, "namespace": SPACE, "labels": NOBODYS},
        "spec": {"workflowTemplateRef": {"name": finetune.NAME}},
    }
    return body | ({"status": status} if status else {})


def followed(run: str, until: str, seconds: float) -> tuple[str, float]:
    """Follow the run until a text is printed; return all that was, and after how many seconds."""
    started = time.monotonic()
    process = begin("status", run, "-n", SPACE, "--watch")
    killer = subprocess.Popen(["sh", "-c", f"sleep {seconds}; kill {process.pid}"])
    assert process.stderr is not None
    printed = ""
    try:
        for line in process.stderr:
            printed += line
            if until in line:
                return printed, time.monotonic() - started
        raise AssertionError(f"never said: {until}\n{printed}")
    finally:
        killer.kill()
        process.kill()
        process.communicate()


def test_that_no_controller_takes_the_run_up_is_said_within_20_seconds(space: str) -> None:
    kubectl("create", "-f", "-", document=workflow("alone"))
    printed, seconds = followed("alone", "no workflow controller has picked up this run", 60)
    assert "workflow-controller is running: kubectl get pods -A -l app=workflow-controller" in printed
    assert f"fineline doctor -n {space}" in printed
    # The command itself takes seconds to start where the machine is busy.
    assert 15 <= seconds < 30


def test_an_image_that_cannot_be_pulled_is_said_within_seconds(space: str) -> None:
    name = "a-tune-1234"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": {"workflows.argoproj.io/workflow": "a"}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "nowhere.invalid/fineline-tune:1"}],
        },
    }
    nodes = {
        "a-1": {"id": "a-1", "name": "a.tune", "displayName": "tune", "type": "Retry", "phase": "Running"},
        "a-1234": {
            "id": "a-1234",
            "name": "a.tune(0)",
            "displayName": "tune(0)",
            "templateName": "tune",
            "type": "Pod",
            "phase": "Pending",
        },
    }
    kubectl("create", "-f", "-", document=workflow("a", phase="Running", nodes=nodes))
    kubectl("create", "-f", "-", document=pod)
    printed, seconds = followed("a", "cannot pull the image nowhere.invalid/fineline-tune:1", 90)
    assert "tune       pending" in printed
    assert seconds < 60
