"""The cluster's own GPU nodes, and nodes that GKE adds: waited for, used, given back.

The GPU is one that the node only says it has: the scheduler counts it, and nothing computes on it. GKE's autoscaler is
played by the tests: they know its kind, and give the node its label.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.workflows.step_pods.pod_patch import PLACED
from steps.common.handover.resolved import Resolved, Rung
from steps.common.kubernetes.cluster_objects import COMPUTE_CLASS_LABEL
from steps.common.nodes import node_request
from steps.common.nodes.gpu_nodes import GPU
from steps.common.runtime.settings import COMPUTE_SETTING
from steps.common.storage import volumes
from tests.support.argo_patch import filled_in
from tests.support.commands import wait_for
from tests.support.kubectl import get, kubectl
from tests.support.overlay import install, uninstall
from tests.support.pods import restricted
from tests.support.steps import Account, ended, objects, rungs, to_buy

SPACE = "fineline-nodes"
PLAN, PROVISION, RELEASE = "steps.plan.step:plan", "steps.provision.step:provision", "steps.release.step:release"
LABELS = {
    "nvidia.com/gpu.product": "NVIDIA-L4",
    "nvidia.com/gpu.memory": "23034",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "9",
}


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """A node that advertises a GPU, as with NVIDIA's device plugin and GPU Feature Discovery."""
    real = [one for one in json.loads(kubectl("get", "nodes", "-o", "json").stdout)["items"] if "kwok" not in str(one)]
    if any(int(one["status"]["allocatable"].get(GPU, 0)) for one in real):
        pytest.skip("the cluster has GPUs of its own")
    name: str = real[0]["metadata"]["name"]
    says(name, "1")
    kubectl("label", "node", name, *(f"{key}={value}" for key, value in LABELS.items()))
    wait_for(lambda: get("node", name, "")["status"]["allocatable"].get(GPU) == "1", 60)
    yield name
    kubectl("label", "node", name, *(f"{key}-" for key in LABELS))
    says(name, None)


def says(node: str, gpus: str | None) -> None:
    status = {"status": {"capacity": {GPU: gpus}, "allocatable": {GPU: gpus}}}
    kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", json.dumps(status))


@pytest.fixture(scope="module")
def space(crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Returns a namespace with a component installed."""
    folder = tmp_path_factory.mktemp("overlay")
    made: dict[str, str] = {}
    places: list[Path] = []

    def with_component(component: str) -> str:
        if component not in made:
            name = f"{SPACE}-{component}"
            kubectl("delete", "namespace", name, "--ignore-not-found")
            places.append(install(folder, name, "one-node", component, upon="base"))
            kubectl("patch", "cronworkflow", "reaper", "-n", name, "--type=merge", "-p", '{"spec":{"suspend":true}}')
            made[component] = name
        return made[component]

    yield with_component
    for place in places:
        uninstall(place)


@pytest.fixture
def account(space: Callable[[str], str], tmp_path: Path) -> Callable[..., Account]:
    """Returns a service account of a component's namespace."""

    def of(component: str, provider: str, name: str = "fineline-provision") -> Account:
        folders = {volumes.RUNS_SETTING: str(tmp_path / "runs"), volumes.WEIGHTS_SETTING: str(tmp_path / "weights")}
        return Account(tmp_path, space(component), name, {COMPUTE_SETTING: provider, **folders})

    return of


def of_this_node(planned: Resolved, **changes: Any) -> Rung:
    (one,) = rungs("g6.xlarge")
    return one.model_copy(update={"instance_type": "NVIDIA-L4", "price": 0.0, "host_bytes": 1 << 28, **changes})


def test_the_plan_knows_the_nodes_that_are_there(account: Callable[..., Account], planned: Resolved, node: str) -> None:
    recipe = json.dumps(planned.recipe.model_dump(mode="json"))
    done = account("gpu-nodes", "nodes", "fineline-plan").run(PLAN, {**EMPTY, "run": "", "recipe": recipe})
    assert done.code == 0, done.log
    quote = json.loads(done.outputs["resolved"])["quote"]
    (one,) = [rung for rung in quote["ladder"] if rung["instance_type"] == "NVIDIA-L4"]
    assert (one["instance_type"], one["device"]["name"], one["device"]["memory_bytes"]) == (
        "NVIDIA-L4",
        "L4",
        23034 << 20,
    )
    assert (quote["provider"], one["cost"]) == ("nodes", 0.0)


EMPTY = {
    "name": "",
    "model": "",
    "data": "",
    "method": "recipe",
    "epochs": "",
    "capacity": "recipe",
    "max_cost": "",
    "serve": "recipe",
    "secrets": "",
}


def test_a_node_with_its_gpu_free_is_taken_at_once(
    account: Callable[..., Account], planned: Resolved, node: str
) -> None:
    steps = account("gpu-nodes", "nodes")
    done = steps.run(PROVISION, to_buy(planned, "free", [of_this_node(planned)], "nodes"))
    assert done.code == 0, done.log
    assert json.loads(done.outputs["hardware"])["node"] == node
    patch = json.loads(filled_in(PLACED, done.outputs["placement"]))
    (main,) = patch["containers"]
    assert main["resources"]["limits"][GPU] == "1"
    spec = {**patch, "containers": [{**main, "image": "x"}]}
    space = steps_space(steps)
    kubectl("apply", "-f", "-", document=pod("lands", space, spec))
    where = ["get", "pod", "lands", "-n", space, "-o", "jsonpath={.spec.nodeName}"]
    assert wait_for(lambda: kubectl(*where).stdout, 60) == node
    kubectl("delete", "pod", "lands", "-n", space, "--force")
    assert released(steps, "free") == "nothing: the nodes existed before"


def steps_space(steps: Account) -> str:
    import yaml

    return str(yaml.safe_load(steps.kubeconfig.read_text())["contexts"][0]["context"]["namespace"])


def pod(name: str, space: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": space}
    return restricted({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def released(steps: Account, run: str, status: str = "Succeeded") -> str:
    given = {"run": run, "status": status, "recipe": "pet-store", "name": "tiny", "failures": "[]", "seconds": "1"}
    done = steps.run(RELEASE, given)
    assert done.code == 0, done.log
    return done.outputs["released"]


def test_while_another_run_has_the_gpu_it_is_waited_for(
    account: Callable[..., Account], planned: Resolved, node: str
) -> None:
    steps = account("gpu-nodes", "nodes")
    space = steps_space(steps)
    (gpu,) = [{"name": "main", "image": "x", "resources": {"limits": {GPU: "1"}}}]
    kubectl("apply", "-f", "-", document=pod("busy", space, {"containers": [gpu]}))
    where = ["get", "pod", "busy", "-n", space, "-o", "jsonpath={.spec.nodeName}"]
    wait_for(lambda: kubectl(*where).stdout, 60)
    late = steps.run(PROVISION, to_buy(planned, "late", [of_this_node(planned)], "nodes", wait_minutes=0.1))
    assert late.code == 2
    assert late.error.startswith("no GPU node became free within 0.1 min each (NVIDIA-L4: ")
    assert "Insufficient nvidia.com/gpu" in late.error
    process, place = steps.begin(PROVISION, to_buy(planned, "waits", [of_this_node(planned)], "nodes"))
    wait_for(lambda: "waiting for a free NVIDIA-L4" in (place / "log.txt").read_text(), 60)
    kubectl("delete", "pod", "busy", "-n", space, "--force")
    process.wait(120)
    assert ended(process, place).code == 0
    holders = kubectl("get", "pods", "-n", space, "-o", "name").stdout
    assert holders == ""


@pytest.fixture(scope="module")
def gke() -> Iterator[None]:
    """GKE's kind, as its reference describes it."""
    field = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": field, "status": field}}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "computeclasses.cloud.google.com"},
        "spec": {
            "group": "cloud.google.com",
            "names": {"kind": "ComputeClass", "plural": "computeclasses", "singular": "computeclass"},
            "scope": "Cluster",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    kubectl("apply", "-f", "-", document=body)
    kubectl("wait", "--for=condition=Established", "crd/computeclasses.cloud.google.com", "--timeout=30s")
    yield
    kubectl("delete", "crd", "computeclasses.cloud.google.com")


def test_gke_is_given_the_ladder_in_its_order_and_the_node_that_comes_is_the_runs(
    account: Callable[..., Account], planned: Resolved, node: str, gke: None
) -> None:
    steps = account("compute-class", "compute-class")
    # The pods of a node that is bought take three quarters of it: here, of one whose size is not known.
    small = {"host_bytes": 1 << 28, "node_bytes": 0, "vcpus": 0}
    ladder = [one.model_copy(update=small) for one in rungs("g2-standard-8", "a2-highgpu-1g", cloud="gcp")]
    process, place = steps.begin(PROVISION, to_buy(planned, "gke", ladder, "compute-class"))
    name = node_request.name_of("gke", steps_space(steps))
    (made,) = wait_for(lambda: [one for one in objects("computeclasses") if one["metadata"]["name"] == name], 60)
    asked = [(one["machineType"], one["gpu"]["type"], one["spot"]) for one in made["spec"]["priorities"]]
    assert asked == [("g2-standard-8", "nvidia-l4", False), ("a2-highgpu-1g", "nvidia-tesla-a100", False)]
    assert made["spec"]["nodePoolAutoCreation"] == {"enabled": True}
    assert process.poll() is None
    mark = {COMPUTE_CLASS_LABEL: name, "node.kubernetes.io/instance-type": "a2-highgpu-1g"}
    kubectl("label", "node", node, *(f"{key}={value}" for key, value in mark.items()))
    try:
        process.wait(120)
        done = ended(process, place)
        assert done.code == 0, done.log
        rung = json.loads(done.outputs["hardware"])["rung"]
        assert (rung["instance_type"], rung["price"]) == ("a2-highgpu-1g", ladder[1].price)
        assert json.loads(filled_in(PLACED, done.outputs["placement"]))["nodeSelector"] == {COMPUTE_CLASS_LABEL: name}
        # Replacements have at least as much memory; and a pod without a GPU keeps the node until the tuning starts.
        (made,) = [one for one in objects("computeclasses") if one["metadata"]["name"] == name]
        assert [one["machineType"] for one in made["spec"]["priorities"]] == ["a2-highgpu-1g"]
        keeper = get("pod", f"{name}-keeps", steps_space(steps))
        assert keeper["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
        assert GPU not in str(keeper["spec"]["containers"])
        assert released(steps, "gke").startswith("a2-highgpu-1g after ")
        assert not [one for one in objects("computeclasses") if one["metadata"]["name"] == name]
    finally:
        kubectl("label", "node", node, *(f"{key}-" for key in mark))


def test_why_gke_brings_nothing_is_told_in_its_words(
    account: Callable[..., Account], planned: Resolved, node: str, gke: None
) -> None:
    steps = account("compute-class", "compute-class")
    ladder = rungs("g2-standard-8", cloud="gcp")
    process, place = steps.begin(PROVISION, to_buy(planned, "dry", ladder, "compute-class", wait_minutes=0.3))
    space = steps_space(steps)
    name = node_request.name_of("dry", space)
    wait_for(lambda: kubectl("get", "pod", name, "-n", space, check=False).returncode == 0, 60)
    uid = get("pod", name, space)["metadata"]["uid"]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    said = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "dry.1", "namespace": space},
        "involvedObject": {"kind": "Pod", "name": name, "namespace": space, "uid": uid},
        "reason": "FailedScaleUp",
        "type": "Warning",
        "message": "Node scale up in zones us-central1-a associated with this pod failed: GCE quota exceeded.",
        "firstTimestamp": now,
        "lastTimestamp": now,
    }
    kubectl("apply", "-f", "-", document=said)
    time.sleep(3)
    # As after an hour, when the API server has dropped the Event; GKE's last message is less specific.
    kubectl("delete", "event", "dry.1", "-n", space)
    last = {"reason": "NotTriggerScaleUp", "message": "pod didn't trigger scale-up: 1 node(s) didn't match"}
    kubectl("apply", "-f", "-", document={**said, **last, "metadata": {"name": "dry.2", "namespace": space}})
    process.wait(120)
    done = ended(process, place)
    assert done.code == 2
    assert done.error.startswith("GKE added no node: quota: Node scale up in zones us-central1-a")
    assert "raise the quota 'NVIDIA_L4_GPUS'" in done.error
    assert released(steps, "dry", "Failed") == "nothing: no node was bought"
    assert not [one for one in objects("computeclasses") if one["metadata"]["name"] == name]
