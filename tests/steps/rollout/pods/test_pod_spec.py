"""What a company's policies ask of every pod that a step creates: requests, limits, the login of a registry, a priority."""

from collections.abc import Callable
from typing import Any

import pytest

from presets.memory import GIB
from steps.common.handover.resolved import ServingPlan
from steps.common.nodes.pod_placement import Placement
from steps.provision.attempt.holder import Holder
from steps.rollout.gateway.upstream import Upstream
from steps.rollout.pods import version_objects
from steps.rollout.pods.version_objects import VersionSpec
from steps.rollout.vllm import base_objects
from steps.rollout.vllm.base_objects import BaseServer


def of_a_version(**more: Any) -> dict[str, Any]:
    upstream = Upstream(version=1, run="r", host="127.0.0.1", port=8000, model="store", base="b", adapter_sha256="a")
    spec = VersionSpec(
        name="store",
        digest="1f3a9c07d2b4e685",
        image="fineline-serve:0.1.0",
        sub_path="merged/x",
        memory_bytes=GIB,
        ready_seconds=60,
        rules=version_objects.rules("store", 600, 4 << 20, 0),
        compute_type="float32",
        api_key_secret="fineline-api-key",
        one_node=False,
        upstream=upstream,
        **more,
    )
    return dict(version_objects.deployment(spec)["spec"]["template"]["spec"])


def of_a_base(gpus: int) -> dict[str, Any]:
    server = BaseServer(
        digest="0" * 64,
        image="vllm",
        served=ServingPlan(runtime="vllm", form="adapter", gpus=gpus),
        weight_bytes=GIB,
        read_bytes_a_second=1e9,
        answer_seconds=60,
        one_node=False,
        autoscaled=False,
    )
    return dict(base_objects.deployment(server)["spec"]["template"]["spec"])


PODS: dict[str, Callable[[], dict[str, Any]]] = {
    "version": of_a_version,
    "adapter on a base server": lambda: of_a_version(base_server="base-1"),
    "base server on GPUs": lambda: of_a_base(2),
    "base server on CPUs": lambda: of_a_base(0),
    "holder": lambda: dict(Holder("a", "run", Placement(gpus=1))._body()["spec"]),
    "holder that only keeps a node": lambda: dict(Holder("a", "run", Placement(), idle=True)._body()["spec"]),
}


@pytest.mark.parametrize("name", PODS)
def test_every_container_has_requests_and_limits(name: str) -> None:
    pod = PODS[name]()
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        given = container["resources"]
        assert given["requests"].keys() >= {"cpu", "memory"}, container["name"]
        assert given["limits"].keys() >= {"cpu", "memory"}, container["name"]


@pytest.mark.parametrize("name", PODS)
def test_every_pod_has_what_the_installation_sets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not PODS[name]().keys() & {"imagePullSecrets", "priorityClassName"}
    monkeypatch.setenv("FINELINE_IMAGE_PULL_SECRETS", "fineline-registry, other")
    monkeypatch.setenv("FINELINE_PRIORITY_CLASS", "batch")
    pod = PODS[name]()
    assert pod["imagePullSecrets"] == [{"name": "fineline-registry"}, {"name": "other"}]
    assert pod["priorityClassName"] == "batch"
