"""Objects of any kind are created, changed, read and deleted through the real API."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.cluster.connection import Connection
from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import NotFoundError
from steps.common.kubernetes.owner import ForeignObjectError
from steps.common.kubernetes.resource import DEPLOYMENTS, Resource, apply, kind_of
from tests.support.kubectl import kubectl

SELECTOR = {"matchLabels": {"app": "a"}}
OWNER = {"app.kubernetes.io/part-of": "fineline", "fineline.dev/model": "store"}
NAMED: dict[str, Any] = {"name": "a", "labels": OWNER}

# What somebody else's object of the same name and kind selects.
THEIRS: dict[str, dict[str, Any]] = {
    "Deployment": {"selector": {"matchLabels": {"app": "theirs"}}},
    "Service": {"selector": {"app": "theirs"}},
    "PodDisruptionBudget": {"selector": {"matchLabels": {"app": "theirs"}}},
    "HorizontalPodAutoscaler": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "theirs"}},
}


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
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": NAMED, "spec": spec}


every_kind = pytest.mark.parametrize(
    "body",
    [
        deployment(0),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": NAMED,
            "spec": {"ports": [{"port": 80}], "selector": {"app": "a"}},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": NAMED,
            "spec": {"maxUnavailable": 1, "selector": SELECTOR},
        },
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": NAMED,
            "spec": {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}},
        },
    ],
    ids=lambda body: str(body["kind"]),
)


@every_kind
def test_what_is_applied_is_returned_when_created_and_when_changed(space: str, body: dict[str, Any]) -> None:
    created = apply(body, space, owner=OWNER)
    assert created["kind"] == body["kind"]
    changed = apply({**body, "metadata": {**NAMED, "annotations": {"b": "c"}}}, space, owner=OWNER)
    assert changed["metadata"]["uid"] == created["metadata"]["uid"]
    assert changed["metadata"]["annotations"]["b"] == "c"
    assert "b" not in apply(body, space, owner=OWNER)["metadata"].get("annotations", {})


@every_kind
def test_what_belongs_to_another_model_is_neither_changed_nor_deleted(space: str, body: dict[str, Any]) -> None:
    kind, before = kind_of(body), apply(body, space, owner=OWNER)
    other = {**OWNER, "fineline.dev/model": "store-v2"}
    with pytest.raises(ForeignObjectError, match="belongs to somebody else"):
        apply({**body, "metadata": {"name": "a", "labels": other}}, space, owner=other)
    with pytest.raises(ForeignObjectError, match="belongs to somebody else"):
        kind.delete("a", space, owner=other)
    with pytest.raises(ForeignObjectError, match="belongs to somebody else"):
        kind.patch("a", {"metadata": {"labels": other}}, space, owner=other)
    found = kind.read("a", space)
    assert found
    assert (found["metadata"]["uid"], found["metadata"]["labels"]) == (before["metadata"]["uid"], OWNER)
    assert kind.delete("a", space, owner=OWNER)


@every_kind
def test_what_somebody_creates_between_the_look_and_the_write_stays_theirs(
    space: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the meantime an object of that name is created by hand, without a label of ours, as far as our look goes."""
    theirs = {**body, "metadata": {"name": "a"}, "spec": {**body["spec"], **THEIRS[body["kind"]]}}
    if "template" in theirs["spec"]:
        labels = theirs["spec"]["selector"]["matchLabels"]
        theirs["spec"]["template"] = {**theirs["spec"]["template"], "metadata": {"labels": labels}}
    kubectl("create", "-n", space, "-f", "-", document=theirs)
    looks: list[str] = []
    look = Resource.read

    def read_before_it_existed(self: Resource, name: str, namespace: str = "") -> dict[str, Any] | None:
        looks.append(name)
        return None if len(looks) == 1 else look(self, name, namespace)

    monkeypatch.setattr(Resource, "read", read_before_it_existed)
    with pytest.raises(ForeignObjectError, match="it has no label"):
        apply(body, space, owner=OWNER)
    assert len(looks) == 2
    found = look(kind_of(body), "a", space)
    assert found
    assert "labels" not in found["metadata"]


@every_kind
def test_what_is_deleted_and_created_anew_between_the_look_and_the_deletion_stays(
    space: str, body: dict[str, Any]
) -> None:
    kind, before = kind_of(body), apply(body, space, owner=OWNER)
    assert kind.delete("a", space, owner=OWNER)
    anew = apply(body, space, owner=OWNER)
    kind.delete_item(before, space)
    found = kind.read("a", space)
    assert found
    assert found["metadata"]["uid"] == anew["metadata"]["uid"]
    kind.delete_item(anew, space)
    assert kind.read("a", space) is None


def test_replicas_that_others_set_survive_an_apply_that_does_not_name_them(space: str) -> None:
    apply(deployment(None), space, owner=OWNER)
    kubectl("scale", "deployment/a", "-n", space, "--replicas=0")
    assert apply(deployment(None), space, owner=OWNER)["spec"]["replicas"] == 0
    scaled = DEPLOYMENTS.patch("a", {"spec": {"replicas": 2}}, space)
    assert scaled
    assert scaled["spec"]["replicas"] == 2
    assert [one["metadata"]["name"] for one in DEPLOYMENTS.list("", space)] == ["a"]
    assert DEPLOYMENTS.delete("a", space, owner=OWNER)


def test_what_does_not_exist_is_none(space: str) -> None:
    assert DEPLOYMENTS.read("a", space) is None
    assert DEPLOYMENTS.patch("a", {}, space) is None
    assert not DEPLOYMENTS.delete("a", space, owner=OWNER)
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
