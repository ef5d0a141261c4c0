"""Waiting for a Deployment, as the API server describes it and its pods from one poll to the next."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from steps.common.kubernetes import client, deployment_wait
from steps.common.kubernetes.deployment_wait import wait_until_available
from steps.common.runtime.errors import RefusedError

LOOPING = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
RUNNING: dict[str, Any] = {"running": {}}


def parsed(body: dict[str, Any], kind: str) -> Any:
    from kubernetes.client import ApiClient

    return ApiClient().deserialize(json.dumps(body), kind, "application/json")


def pod(template: str, second: int, state: dict[str, Any], **metadata: Any) -> Any:
    status = {"name": "server", "image": "server:2", "imageID": "", "ready": False, "restartCount": 2, "state": state}
    labels = {"pod-template-hash": template}
    created = f"2026-01-02T03:04:{second:02}Z"
    body = {
        "metadata": {
            "name": f"a-{template}",
            "namespace": "shop",
            "labels": labels,
            "creationTimestamp": created,
            **metadata,
        },
        "spec": {"containers": [{"name": "server"}]},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }
    return parsed(body, "V1Pod")


def deployment(updated: int, available: int = 0, observed: int = 2, replicas: int = 1, **condition: str) -> Any:
    body = {
        "metadata": {"name": "a", "generation": 2},
        "spec": {"replicas": replicas, "selector": {}, "template": {}},
        "status": {
            "observedGeneration": observed,
            "updatedReplicas": updated,
            "availableReplicas": available,
            "conditions": [condition] if condition else [],
        },
    }
    return parsed(body, "V1Deployment")


Poll = tuple[Any | None, list[Any]]


def wait(monkeypatch: pytest.MonkeyPatch, *polls: Poll, seconds: float = 600.0, shared: bool = False) -> int:
    """Wait for a Deployment; return after how many polls it was available. The last poll repeats."""
    from kubernetes.client import ApiException

    count = 0

    def read(*_: Any) -> Any:
        nonlocal count
        count += 1
        found = polls[min(count, len(polls)) - 1][0]
        if found is None:
            raise ApiException(status=404, reason="not found")
        return found

    def pods(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(items=polls[min(count, len(polls)) - 1][1])

    monkeypatch.setattr(client, "apps", lambda: SimpleNamespace(read_namespaced_deployment=read))
    monkeypatch.setattr(client, "core", lambda: SimpleNamespace(list_namespaced_pod=pods))
    monkeypatch.setattr(deployment_wait, "POLL_SECONDS", 0.01)
    wait_until_available("a", "shop", "app=a", seconds, shared=shared)
    return count


OLD = pod("old", 1, LOOPING)
NEW = pod("new", 2, RUNNING)
DONE = (deployment(1, 1), [NEW])


def test_a_pod_that_is_being_replaced_does_not_end_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    unseen, no_pod_yet = (deployment(1, observed=1), [OLD]), (deployment(0), [OLD])
    assert wait(monkeypatch, unseen, no_pod_yet, (deployment(1), [OLD, NEW]), DONE) == 4
    evicted = pod("new", 2, RUNNING, deletionTimestamp="2026-01-02T03:05:00Z")
    assert wait(monkeypatch, (deployment(1), [OLD, evicted]), DONE) == 2


def test_a_new_pod_that_cannot_start_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = (deployment(1, 1, replicas=2), [pod("old", 1, RUNNING), pod("new", 2, LOOPING)])
    with pytest.raises(RefusedError, match=r"^a was not ready in 0 s: container server: CrashLoopBackOff: .* a-new "):
        wait(monkeypatch, crashing)


def test_one_replica_that_cannot_start_does_not_refuse_a_shared_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    one = (deployment(2, 1, replicas=2), [pod("new", 1, RUNNING), pod("new", 2, LOOPING)])
    late = deployment(2, 1, replicas=2, type="Progressing", status="False", reason="ProgressDeadlineExceeded")
    assert wait(monkeypatch, one, (late, one[1]), (deployment(2, 2, replicas=2), []), shared=True) == 3
    with pytest.raises(RefusedError, match="CrashLoopBackOff"):
        wait(monkeypatch, one, seconds=0.1, shared=True)
    with pytest.raises(RefusedError, match=r"^a was not ready in 0 s: container server: CrashLoopBackOff"):
        wait(monkeypatch, (deployment(1), [pod("new", 1, LOOPING)]), shared=True)


def test_a_deployment_that_is_deleted_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefusedError, match=r"^a was deleted before it was ready; run it again$"):
        wait(monkeypatch, (deployment(1), [NEW]), (None, []))
    assert wait(monkeypatch, (None, []), DONE) == 2
