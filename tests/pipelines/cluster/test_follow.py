"""What a person who follows a run on a cluster is told where it does not start, on a clock that the test moves."""

import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client import ApiException
from rich.console import Console

from pipelines.cluster.follow import RunWatch
from pipelines.shown.display import Display
from steps.common.runtime.errors import UserError
from tests.support.clock import Clock


def pod(name: str, **waiting: str) -> Any:
    """A pod as the API returns it, with a container that waits."""
    state = SimpleNamespace(waiting=SimpleNamespace(**waiting), terminated=None)
    container = SimpleNamespace(name="main", image="nowhere/tune:1", state=state, last_state=None, restart_count=0)
    status = SimpleNamespace(phase="Pending", container_statuses=[container], init_container_statuses=[], conditions=[])
    metadata = SimpleNamespace(name=name, namespace="ml", uid="1", deletion_timestamp=None)
    return SimpleNamespace(metadata=metadata, status=status, spec=SimpleNamespace(node_name="", restart_policy="Never"))


def workflow(phase: str = "", message: str = "", **nodes: dict[str, Any]) -> dict[str, Any]:
    for name, node in nodes.items():
        node.setdefault("displayName", name)
        node.setdefault("templateName", name)
        node.setdefault("id", f"a-{name}-17")
    status = {"phase": phase, "message": message, "nodes": nodes} if phase else {}
    return {"metadata": {"name": "a"}, "spec": {}, "status": status}


PENDING_ATTEMPT = {
    "tune": {"type": "Retry", "phase": "Running"},
    "attempt": {"type": "Pod", "phase": "Pending", "displayName": "tune(0)", "templateName": "tune", "id": "a-tune-5"},
}


def watched(list_pods: Callable[..., Any], *, seconds: int, found: dict[str, Any]) -> list[str]:
    """Watch a Workflow that stays as it is, once a second; return the lines."""
    text, clock = io.StringIO(), Clock()
    connection: Any = SimpleNamespace(namespace="ml", core=SimpleNamespace(list_namespaced_pod=list_pods))
    display = Display("run a", ["plan", "tune"], Console(file=text, width=400, highlight=False), clock)
    with display:
        watch = RunWatch(connection, ["plan", "tune"], display, clock)
        for _ in range(seconds):
            watch.show(found)
            clock.now += 1
    return text.getvalue().splitlines()[1:]


def no_pods(*_: Any, **__: Any) -> Any:
    return SimpleNamespace(items=[])


def test_that_no_controller_takes_the_run_up_is_said_within_20_seconds_and_every_minute() -> None:
    assert watched(no_pods, seconds=15, found=workflow()) == []
    (line,) = watched(no_pods, seconds=21, found=workflow())
    assert "no workflow controller has picked up this run" in line
    assert "kubectl get pods -A -l app=workflow-controller" in line
    assert "fineline doctor -n ml" in line
    assert len(watched(no_pods, seconds=150, found=workflow())) == 3


def test_a_run_that_another_one_holds_up_says_so() -> None:
    (line,) = watched(
        no_pods, seconds=30, found=workflow("Pending", "Waiting for ml/Mutex/pets lock. Lock status: 0/1")
    )
    assert line == "Waiting for ml/Mutex/pets lock. Lock status: 0/1"


def test_a_run_that_was_taken_up_has_no_such_note() -> None:
    assert watched(no_pods, seconds=60, found=workflow("Running")) == []


def test_why_a_steps_pod_does_not_start_is_said_within_seconds() -> None:
    nodes: dict[str, Any] = {name: dict(node) for name, node in PENDING_ATTEMPT.items()}
    found = workflow("Running", **nodes)
    asked = []

    def list_pods(space: str, label_selector: str) -> Any:
        asked.append((space, label_selector))
        pulling = pod("a-tune-5", reason="ImagePullBackOff", message="Back-off pulling image nowhere/tune:1")
        return SimpleNamespace(items=[pulling, pod("a-other-6", reason="ErrImagePull", message="another step's")])

    (line,) = watched(list_pods, seconds=5, found=found)
    assert line.startswith("tune       pending: container main: cannot pull the image nowhere/tune:1: ImagePullBackOff")
    assert set(asked) == {("ml", "workflows.argoproj.io/workflow=a")}
    assert len(asked) == 1


def test_a_step_that_has_ended_without_a_report_is_said_within_a_minute() -> None:
    running = pod("a-tune-5")
    ended = SimpleNamespace(waiting=None, running=None, terminated=SimpleNamespace(exit_code=0))
    runs = SimpleNamespace(waiting=None, running=SimpleNamespace(), terminated=None)
    main, executor = SimpleNamespace(name="main", state=ended), SimpleNamespace(name="wait", state=runs)
    running.status.phase, running.status.container_statuses = "Running", [main, executor]
    attempt = PENDING_ATTEMPT["attempt"] | {"phase": "Running"}
    found = workflow("Running", tune=dict(PENDING_ATTEMPT["tune"]), attempt=attempt)

    def list_pods(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(items=[running])

    assert not any("has ended" in line for line in watched(list_pods, seconds=25, found=found))
    line = next(one for one in watched(list_pods, seconds=60, found=found) if "has ended" in one)
    assert "fineline doctor -n ml" in line
    assert "kubectl logs a-tune-5 -c wait -n ml" in line
    main.state = runs
    assert not any("has ended" in line for line in watched(list_pods, seconds=60, found=found))


@pytest.mark.parametrize("error", [ApiException(status=403), UserError("no kubeconfig")])
def test_where_pods_cannot_be_read_argos_own_message_is_shown(error: Exception) -> None:
    nodes: dict[str, Any] = {name: dict(node) for name, node in PENDING_ATTEMPT.items()}
    nodes["attempt"]["message"] = 'pods "a-tune-5" is forbidden: exceeded quota: gpus'

    def refuse(*_: Any, **__: Any) -> Any:
        raise error

    (line,) = watched(refuse, seconds=5, found=workflow("Running", **nodes))
    assert line == 'tune       pending: pods "a-tune-5" is forbidden: exceeded quota: gpus'
