"""Objects of any kind are created, changed, read and deleted through the real API."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.cluster.connection import Connection
from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import NotFoundError
from steps.common.kubernetes.resource import DEPLOYMENTS, apply
from tests.support.kubectl import kubectl

SELECTOR = {"matchLabels": {"app": "a"}}


@pytest.fixture
def space(crds: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(client._Process, "api_client", None)
    name = f"fineline-resource-{secrets.token_hex(3)}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def deployment(replicas: int | None) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}}
    scale = {} if replicas is None else {"replicas": replicas}
    spec = {"selector": SELECTOR, "template": template, **scale}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec}


@pytest.mark.parametrize(
    "body",
    [
        deployment(0),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "a"},
            "spec": {"ports": [{"port": 80}], "selector": {"app": "a"}},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "a"},
            "spec": {"maxUnavailable": 1, "selector": SELECTOR},
        },
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a"},
            "spec": {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}},
        },
    ],
    ids=lambda body: str(body["kind"]),
)
def test_what_is_applied_is_returned_when_created_and_when_changed(space: str, body: dict[str, Any]) -> None:
    created = apply(body, space)
    assert created["kind"] == body["kind"]
    changed = apply({**body, "metadata": {"name": "a", "annotations": {"b": "c"}}}, space)
    assert changed["metadata"]["uid"] == created["metadata"]["uid"]
    assert changed["metadata"]["annotations"]["b"] == "c"


def test_replicas_that_others_set_survive_an_apply_that_does_not_name_them(space: str) -> None:
    apply(deployment(None), space)
    kubectl("scale", "deployment/a", "-n", space, "--replicas=0")
    assert apply(deployment(None), space)["spec"]["replicas"] == 0
    scaled = DEPLOYMENTS.patch("a", {"spec": {"replicas": 2}}, space)
    assert scaled
    assert scaled["spec"]["replicas"] == 2
    assert [one["metadata"]["name"] for one in DEPLOYMENTS.list("", space)] == ["a"]
    assert DEPLOYMENTS.delete("a", space)


def test_what_does_not_exist_is_none(space: str) -> None:
    assert DEPLOYMENTS.read("a", space) is None
    assert DEPLOYMENTS.patch("a", {}, space) is None
    assert not DEPLOYMENTS.delete("a", space)
    assert client.resources("no.such.group", "v1") == frozenset()


def test_a_connection_reads_writes_and_stops_runs(space: str) -> None:
    connection = Connection(space, "")
    run = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "a-", "labels": {"app.kubernetes.io/part-of": "fineline"}},
        "spec": {"entrypoint": "a", "templates": [{"name": "a", "suspend": {}}]},
    }
    name = connection.create(run)["metadata"]["name"]
    assert [one["metadata"]["name"] for one in connection.runs()] == [name]
    connection.stop(name)
    found = connection.get("workflows", name)
    assert found
    assert found["spec"]["shutdown"] == "Stop"
    with pytest.raises(NotFoundError, match="no run 'another'"):
        connection.stop("another")
    with pytest.raises(NotFoundError, match='namespaces "no-such-space" not found'):
        Connection("no-such-space", "").create(run)
    connection.delete("workflows", name)
    assert connection.get("workflows", name) is None
