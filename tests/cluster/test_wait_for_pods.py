"""Waiting for a Deployment whose pods cannot start, on a real cluster: the reason is known in seconds and ends the wait."""

import json
import time
from collections.abc import Iterator
from threading import Timer
from typing import Any

import pytest

from steps.common.handover.resolved import Resolved
from steps.common.kubernetes import client, deployment_wait, wait
from steps.common.kubernetes.deployment_wait import wait_until_available
from steps.common.kubernetes.resource import DEPLOYMENTS
from steps.common.kubernetes.wait import Problem
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import RefusedError
from steps.common.storage import volumes
from steps.rollout.lease.right import Purpose
from steps.rollout.lease.serving_lease import serving_lease
from steps.rollout.places.cluster_place import ClusterPlace
from steps.rollout.pods import version_objects
from steps.rollout.pods.version_objects import VersionSpec
from steps.rollout.vllm import base_objects, base_server
from steps.rollout.vllm.base_objects import BaseServer
from tests.steps.rollout.vllm.test_vllm_pods import base_server as a_base_server
from tests.support.kubectl import kubectl

SPACE = "fineline-waits"
LONG = 600.0
NO_IMAGE = "localhost:1/no-such-image:1"  # without a registry that could answer that it does not exist
MISSING_KEY = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "no-such-secret", "key": "token"}}}
MISSING_VOLUME = {"name": "data", "secret": {"secretName": "no-such-secret"}}


@pytest.fixture(scope="module")
def space() -> Iterator[str]:
    kubectl("delete", "namespace", SPACE, "--ignore-not-found")
    kubectl("create", "namespace", SPACE)
    yield SPACE
    kubectl("delete", "namespace", SPACE, "--wait=false")


@pytest.fixture(scope="module")
def image() -> str:
    """An image that is on a node already: which one does not matter."""
    nodes = json.loads(kubectl("get", "nodes", "-o", "json").stdout)["items"]
    names = [name for node in nodes for one in node["status"].get("images", []) for name in one.get("names") or []]
    return str(next(name for name in names if "@" not in name))


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client._Process, "api_client", None)
    for problem in (Problem.IMAGE, Problem.CONFIGURATION):
        monkeypatch.setitem(wait.PATIENCE_SECONDS, problem, 5.0)
    monkeypatch.setattr(deployment_wait, "POLL_SECONDS", 0.5)


def deployment(name: str, container: dict[str, Any], **pod: Any) -> dict[str, Any]:
    labels = {"app": name}
    spec = {"containers": [{"name": "server", **container}], "terminationGracePeriodSeconds": 0, **pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": SPACE},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }


def refused(name: str, body: dict[str, Any], seconds: float) -> tuple[str, float]:
    """Return why the wait for a Deployment failed, and after how long."""
    kubectl("apply", "-f", "-", document=body)
    began = time.monotonic()
    try:
        with pytest.raises(RefusedError) as caught:
            wait_until_available(name, SPACE, f"app={name}", seconds)
        return str(caught.value), time.monotonic() - began
    finally:
        kubectl("delete", "deployment", name, "-n", SPACE, "--wait=false")


def test_an_image_that_does_not_exist_ends_the_wait(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    container = {"image": NO_IMAGE, "imagePullPolicy": "Never"}
    text, seconds = refused("no-image", deployment("no-image", container), LONG)
    assert f"container server: cannot pull the image {NO_IMAGE}" in text
    assert seconds < 60
    lines = capsys.readouterr().err.splitlines()
    assert any("cannot pull the image" in line for line in lines)
    assert len(lines) < 10


def test_for_a_registry_that_does_not_answer_it_waits_and_says_so(
    space: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text, seconds = refused("no-registry", deployment("no-registry", {"image": NO_IMAGE}), 15)
    assert seconds > 14
    assert f"container server: cannot pull the image {NO_IMAGE}: " in text
    assert "cannot pull the image" in capsys.readouterr().err


def test_a_rollout_whose_image_does_not_exist_is_refused_in_seconds_with_the_reason(
    space: str, planned: Resolved, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "fineline-runs", "namespace": space},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    kubectl("apply", "-f", "-", document=claim)

    def never_pulled(spec: VersionSpec) -> dict[str, Any]:
        body = version_deployment(spec)
        spec_of_pods = body["spec"]["template"]["spec"]
        for container in [*spec_of_pods.get("initContainers", []), *spec_of_pods["containers"]]:
            container["imagePullPolicy"] = "Never"
        return body

    version_deployment = version_objects.deployment
    monkeypatch.setattr(version_objects, "deployment", never_pulled)
    monkeypatch.setenv(cluster_settings.SERVE_IMAGE_SETTING, NO_IMAGE)
    monkeypatch.setenv("FINELINE_API_KEY_DEFAULT", "none")
    monkeypatch.setattr(cluster_settings, "namespace", lambda: space)
    model = volumes.runs() / "merged" / "version-1"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(bytes(1 << 20))
    with serving_lease(planned.recipe.name, Purpose.ROLLOUT, 1, lambda: 0) as lease:
        place = ClusterPlace(planned, 1, model, 1 << 20, "digest", model, model, 0, lease)
        assert place.why_not_both() == ""
        began = time.monotonic()
        with pytest.raises(RefusedError, match=f"cannot pull the image {NO_IMAGE}"):
            place.start()
        assert time.monotonic() - began < 60
        place.retain_refused("it cannot start")
    assert place.old_version is None
    (kept,) = DEPLOYMENTS.list(f"fineline.dev/model={planned.recipe.name}", space)
    assert kept["metadata"]["labels"]["fineline.dev/state"] == "refused"
    assert kept["metadata"]["annotations"]["fineline.dev/refused-because"] == "it cannot start"


def test_a_container_that_ends_at_once_ends_the_wait(space: str, image: str) -> None:
    container = {"image": image, "imagePullPolicy": "Never", "command": ["/no-such-program"]}
    text, seconds = refused("crashes", deployment("crashes", container), LONG)
    assert "container server: CrashLoopBackOff: it has ended " in text
    assert "no-such-program" in text
    assert "kubectl logs crashes-" in text
    assert seconds < 60


def test_a_container_that_ends_at_once_does_not_refuse_its_repair(space: str, image: str) -> None:
    """The old pod goes on until a new one is ready, which waits for a node."""
    crashes = deployment("repaired", {"image": image, "imagePullPolicy": "Never", "command": ["/no-such-program"]})
    kubectl("apply", "-f", "-", document=crashes)
    with pytest.raises(RefusedError, match="CrashLoopBackOff"):
        wait_until_available("repaired", SPACE, "app=repaired", LONG)
    text, seconds = refused("repaired", deployment("repaired", {"image": image}, nodeSelector={"no-such": "label"}), 6)
    assert seconds > 5
    assert "no node can run the pod: 0/" in text


def test_a_deployment_that_is_deleted_ends_the_wait(space: str, image: str) -> None:
    kubectl("apply", "-f", "-", document=deployment("gone", {"image": image}, nodeSelector={"no-such": "label"}))
    deletion = Timer(2, kubectl, ("delete", "deployment", "gone", "-n", SPACE, "--wait=false"))
    deletion.start()
    began = time.monotonic()
    with pytest.raises(RefusedError, match=r"^gone was deleted before it was ready"):
        wait_until_available("gone", SPACE, "app=gone", LONG)
    deletion.join()
    assert time.monotonic() - began < 30


def test_a_base_server_that_ends_at_once_is_refused_and_deleted(
    space: str, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = a_base_server(image=image)
    container = {"name": "vllm", "image": image, "imagePullPolicy": "Never", "command": ["/no-such-program"]}

    def crashes(server: BaseServer) -> dict[str, Any]:
        body = base_objects.deployment(server)
        body["spec"]["template"]["spec"] = {"containers": [container]}
        return body

    monkeypatch.setattr(base_server, "deployment", crashes)
    monkeypatch.setattr(cluster_settings, "namespace", lambda: space)
    began = time.monotonic()
    with pytest.raises(RefusedError, match="container vllm: CrashLoopBackOff: it has ended "):
        base_server._start(server)
    assert time.monotonic() - began < 60 < server.ready_seconds
    assert DEPLOYMENTS.read(server.name, space) is None
    assert kubectl("get", "service", server.name, "-n", space, check=False).returncode == 1


def test_a_secret_that_is_missing_ends_the_wait(space: str, image: str) -> None:
    container = {"image": image, "imagePullPolicy": "Never", "env": [MISSING_KEY]}
    text, seconds = refused("no-secret", deployment("no-secret", container), LONG)
    assert 'secret "no-such-secret" not found' in text
    assert seconds < 60


def test_a_volume_that_cannot_be_mounted_is_named(space: str, image: str) -> None:
    mount = {"name": "data", "mountPath": "/data"}
    container = {"image": image, "imagePullPolicy": "Never", "volumeMounts": [mount]}
    text, seconds = refused("no-volume", deployment("no-volume", container, volumes=[MISSING_VOLUME]), LONG)
    assert "FailedMount: " in text
    assert 'secret "no-such-secret" not found' in text
    assert seconds < 90


def test_for_a_node_it_waits_and_says_so(space: str, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    body = deployment("no-node", {"image": image}, nodeSelector={"no-such": "label"})
    text, seconds = refused("no-node", body, 6)
    assert seconds > 5
    assert "no node can run the pod: 0/" in text
    assert "no node can run the pod: 0/" in capsys.readouterr().err


def test_for_a_quota_it_waits_and_says_so(space: str, image: str) -> None:
    kubectl("create", "quota", "none", "-n", SPACE, "--hard=pods=0")
    try:
        text, seconds = refused("no-quota", deployment("no-quota", {"image": image}), 6)
    finally:
        kubectl("delete", "quota", "none", "-n", SPACE)
    assert seconds > 5
    assert "no pod can be created: " in text
    assert "exceeded quota: none" in text
