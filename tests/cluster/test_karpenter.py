"""GPU nodes bought and given back through Karpenter's controllers, in the ladder's order, around shortages, however runs end.

The nodes are KWOK's: objects without machines. NodePools, NodeClaims, Events, conditions and prices are Karpenter's.
"""

import contextlib
import copy
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.workflows.step_pods.pod_patch import PLACED
from steps.common.handover.resolved import Resolved
from steps.common.kubernetes.workflow_objects import STOPPED, why_stopped
from steps.common.nodes import node_request
from steps.common.nodes.termination import COMPONENT_LABEL, HOLDER
from steps.common.runtime.cluster_settings import ONE_NODE_SETTING
from steps.common.runtime.settings import CLOUD_SETTING, COMPUTE_SETTING, NODE_CLASS_SETTING
from steps.common.storage import volumes
from steps.reap.stranded import WORKFLOW_LABEL
from tests.support.argo_patch import filled_in
from tests.support.commands import fineline, wait_for
from tests.support.kubectl import BUILT, CLUSTER_TOOLS, get, kubectl
from tests.support.overlay import install, uninstall
from tests.support.pods import restricted
from tests.support.steps import Account, Ended, ended, objects, rungs, to_buy

SPACE = "fineline-karpenter"
PROVISION, RELEASE, REAP = "steps.provision.step:provision", "steps.release.step:release", "tests.support.hasty:reap"
RELEASE_NODE = "steps.release.node:release_node"
GRACE_SECONDS = 30.0  # as tests.support.hasty sets it
SOLD_OUT = "g6.xlarge"
CLUSTER_STATE = Path("/var/lib/cluster")  # where the tools keep the process ids of what they start
CLASS_GROUP, CLASS_KIND = "karpenter.kwok.sh", "KWOKNodeClass"


@pytest.fixture(scope="module")
def karpenter(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Karpenter's controllers, with one instance type sold out."""
    start = CLUSTER_TOOLS / "karpenter"
    if not start.exists():
        pytest.skip("there are no tools to start Karpenter with KWOK's nodes")
    types = json.loads((CLUSTER_TOOLS / "instance-types.json").read_text())
    for one in types:
        # As after a cloud has reported that it has none: Karpenter ignores the offering.
        one["offerings"] = [] if one["name"] == SOLD_OUT else one["offerings"]
    file = tmp_path_factory.mktemp("types") / "types.json"
    file.write_text(json.dumps(types))
    stop_karpenter()
    subprocess.run([start], env={**os.environ, "INSTANCE_TYPES_FILE_PATH": str(file)}, check=True, timeout=1200)


def stop_karpenter() -> None:
    """Stop a Karpenter that knows other instance types."""
    file = CLUSTER_STATE / "karpenter.pid"
    if file.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGKILL)
        file.unlink()


@pytest.fixture(scope="module")
def space(karpenter: None, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A namespace with the component `karpenter`, and KWOK's NodeClass besides those of the clouds."""
    kubectl("delete", "namespace", SPACE, "--ignore-not-found")
    kubectl("delete", "nodes", "-l", "karpenter.sh/nodepool")
    place = install(tmp_path_factory.mktemp("overlay"), SPACE, "one-node", "karpenter", upon="base")
    # These tests call the reaper themselves.
    kubectl("patch", "cronworkflow", "reaper", "-n", SPACE, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    kwok = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "fineline-kwok"},
        "rules": [{"apiGroups": [CLASS_GROUP], "resources": ["kwoknodeclasses"], "verbs": ["list"]}],
    }
    kubectl("apply", "-f", "-", document=kwok)
    kubectl("delete", "clusterrolebinding", "fineline-kwok", "--ignore-not-found")
    kubectl(
        "create", "clusterrolebinding", "fineline-kwok", "--clusterrole=fineline-kwok",
        f"--serviceaccount={SPACE}:fineline-provision",
    )  # fmt: skip
    yield SPACE
    uninstall(place)
    kubectl("delete", "clusterrolebinding", "fineline-kwok", "--ignore-not-found")
    # The namespace owned what was bought.
    assert wait_for(lambda: not objects("nodepools", f"{node_request.NAMESPACE_LABEL}={SPACE}"), 120)
    # Karpenter's KWOK provider creates a node minutes after its claim was deleted, and nothing deletes that node. Pods of
    # other tests would be bound to it.
    stop_karpenter()
    kubectl("delete", "nodes", "-l", "karpenter.sh/nodepool")


@pytest.fixture
def account(space: str, tmp_path: Path) -> Account:
    settings = {
        COMPUTE_SETTING: "karpenter",
        NODE_CLASS_SETTING: f"{CLASS_GROUP}/{CLASS_KIND}",
        CLOUD_SETTING: "aws",
        volumes.RUNS_SETTING: str(tmp_path / "runs"),
        volumes.WEIGHTS_SETTING: str(tmp_path / "weights"),
    }
    return Account(tmp_path, space, "fineline-provision", settings)


def pool_of(run: str) -> dict[str, Any] | None:
    name = node_request.name_of(run, SPACE)
    return next((pool for pool in objects("nodepools") if pool["metadata"]["name"] == name), None)


def nodes_of(run: str) -> list[dict[str, Any]]:
    return objects("nodes", f"karpenter.sh/nodepool={node_request.name_of(run, SPACE)}")


def released(account: Account, run: str, status: str = "Succeeded") -> Ended:
    return account.run(
        RELEASE,
        {"run": run, "status": status, "recipe": "pet-store", "name": "tiny", "failures": "[]", "seconds": "60"},
    )


def nothing_left(run: str) -> bool:
    wait_for(lambda: not nodes_of(run), 90)
    holders = kubectl("get", "pods", "-n", SPACE, "-l", f"{node_request.RUN_LABEL}={run}", "-o", "name").stdout
    return pool_of(run) is None and not holders


def test_the_first_rung_is_bought_and_given_back_with_its_cost(account: Account, planned: Resolved) -> None:
    done = account.run(PROVISION, to_buy(planned, "first", rungs("g5.xlarge", "g6e.xlarge"), max_hours=2.0))
    assert done.code == 0, done.log
    hardware, patch = json.loads(done.outputs["hardware"]), json.loads(filled_in(PLACED, done.outputs["placement"]))
    assert hardware["rung"]["instance_type"] == "g5.xlarge"
    assert hardware["until"] == pytest.approx(hardware["since"] + 7200)
    assert done.outputs["attempts"].startswith("g5.xlarge on-demand in test-zone-")
    assert ": ready after " in done.outputs["attempts"]
    (node,) = nodes_of("first")
    assert node["metadata"]["name"] == hardware["node"]
    assert node["metadata"]["labels"]["node.kubernetes.io/instance-type"] == "g5.xlarge"
    spec = pool_of("first")["spec"]  # type: ignore[index]
    assert spec["limits"] == {"nvidia.com/gpu": "1"}
    assert spec["disruption"]["budgets"] == [{"nodes": "0"}]
    assert spec["template"]["spec"]["expireAfter"] == "Never"
    # No other pod is placed on the run's node.
    assert patch["nodeSelector"].items() <= node["metadata"]["labels"].items()
    assert {taint["key"] for taint in node["spec"]["taints"]} <= {one["key"] for one in patch["tolerations"]}
    # Either could replace it if it were lost; and nothing holds the GPU any more.
    (types,) = [
        one for one in spec["template"]["spec"]["requirements"] if one["key"] == "node.kubernetes.io/instance-type"
    ]
    assert types["values"] == ["g5.xlarge", "g6e.xlarge"]
    assert kubectl("get", "pods", "-n", SPACE, "-o", "name").stdout == ""
    done = released(account, "first")
    assert done.code == 0, done.log
    assert done.outputs["released"].startswith("g5.xlarge after ")
    assert done.outputs["released"].endswith("$0.01") or done.outputs["released"].endswith("$0.00")
    assert nothing_left("first")


def test_a_pod_of_the_run_lands_there_and_keeps_its_node(account: Account, planned: Resolved) -> None:
    done = account.run(PROVISION, to_buy(planned, "lands", rungs("g5.xlarge")))
    patch = json.loads(filled_in(PLACED, done.outputs["placement"]))
    (main,) = patch.pop("containers")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tune", "namespace": SPACE},
        "spec": {**patch, "containers": [{**main, "image": "x"}]},
    }
    kubectl("apply", "-f", "-", document=restricted(pod))
    where = ["get", "pod", "tune", "-n", SPACE, "-o", "jsonpath={.spec.nodeName}"]
    assert wait_for(lambda: kubectl(*where).stdout, 60) == json.loads(done.outputs["hardware"])["node"]
    kubectl("delete", "pod", "tune", "-n", SPACE, "--force")
    # Longer than Karpenter keeps an empty node: the run's next step is still to come.
    time.sleep(45)
    assert len(nodes_of("lands")) == 1
    released(account, "lands")
    assert nothing_left("lands")


def test_a_rung_that_is_sold_out_is_walked_past(account: Account, planned: Resolved) -> None:
    done = account.run(PROVISION, to_buy(planned, "past", rungs(SOLD_OUT, "g6e.xlarge")))
    assert done.code == 0, done.log
    first, second = done.outputs["attempts"].splitlines()
    assert first.startswith(f"{SOLD_OUT} on-demand at $0.8048/h: requested after ")
    assert ": capacity: " in first
    assert second.startswith("g6e.xlarge on-demand in test-zone-")
    assert json.loads(done.outputs["hardware"])["rung"]["instance_type"] == "g6e.xlarge"
    released(account, "past")
    assert nothing_left("past")


def test_spot_is_asked_for_where_it_is_wanted(account: Account, planned: Resolved) -> None:
    done = account.run(PROVISION, to_buy(planned, "spot", rungs("g5.xlarge", capacity="spot")))
    assert done.code == 0, done.log
    (node,) = nodes_of("spot")
    assert node["metadata"]["labels"]["karpenter.sh/capacity-type"] == "spot"
    released(account, "spot")
    assert nothing_left("spot")


def test_that_another_runs_pool_is_full_is_not_this_ones_failure(account: Account, planned: Resolved) -> None:
    assert account.run(PROVISION, to_buy(planned, "full", rungs("g5.xlarge"))).code == 0
    done = account.run(PROVISION, to_buy(planned, "beside", rungs(SOLD_OUT, "g5.xlarge")))
    assert done.code == 0, done.log
    first, second = done.outputs["attempts"].splitlines()
    assert "capacity: " in first
    assert "ready" in second
    for run in ("full", "beside"):
        released(account, run)
        assert nothing_left(run)


def test_where_everything_is_sold_out_it_is_said_in_one_line_and_nothing_stays(
    account: Account, planned: Resolved
) -> None:
    done = account.run(PROVISION, to_buy(planned, "none", rungs(SOLD_OUT)))
    assert done.code == 2
    assert done.error.startswith(f"no {SOLD_OUT} (on-demand): capacity: ")
    assert "allow more in compute.instance_types" in done.error
    assert released(account, "none", "Failed").outputs["released"] == "nothing: no node was bought"
    assert nothing_left("none")
    # As when Argo retries the run: what was sold out may be available again, and is requested again.
    again = account.run(PROVISION, to_buy(planned, "none", rungs(SOLD_OUT)))
    assert f"waiting for {SOLD_OUT}" in again.log
    assert again.error.startswith(f"no {SOLD_OUT} (on-demand): capacity: ")
    released(account, "none", "Failed")


def test_a_holder_that_somebody_deletes_is_made_anew(account: Account, planned: Resolved) -> None:
    # Provision makes a holder anew only until its node is requested, so Karpenter must request none meanwhile.
    with standing_still("karpenter"):
        process, place = account.begin(PROVISION, to_buy(planned, "holds", rungs("g5.xlarge")))
        name = f"{node_request.name_of('holds', SPACE)}-0"
        uid = wait_for(lambda: uid_of(name), 120)
        kubectl("delete", "pod", name, "-n", SPACE, "--force")
        assert wait_for(lambda: uid_of(name), 120) != uid
    process.wait(180)
    assert ended(process, place).code == 0
    released(account, "holds")
    assert nothing_left("holds")


@contextlib.contextmanager
def standing_still(controller: str) -> Iterator[None]:
    """Stop the process of a controller, and let it go on afterwards."""
    process = int((CLUSTER_STATE / f"{controller}.pid").read_text())
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def uid_of(pod: str) -> str:
    return kubectl("get", "pod", pod, "-n", SPACE, "-o", "jsonpath={.metadata.uid}", check=False).stdout


def test_a_limit_that_is_reached_is_a_matter_of_configuration(account: Account, planned: Resolved) -> None:
    (small,) = rungs("g6.12xlarge")
    done = account.run(PROVISION, to_buy(planned, "limit", [small.model_copy(update={"node_gpus": 1})]))
    assert done.code == 2
    assert ": configuration: " in done.error
    assert "exceed limits" in done.error
    released(account, "limit", "Failed")
    assert nothing_left("limit")


@pytest.fixture
def broken_class(karpenter: None) -> Iterator[str]:
    body = {"apiVersion": f"{CLASS_GROUP}/v1alpha1", "kind": CLASS_KIND, "metadata": {"name": "broken"}}
    kubectl("apply", "-f", "-", document=body)
    not_ready = {
        "type": "Ready",
        "status": "False",
        "reason": "SubnetsNotFound",
        "message": "SubnetSelector did not match any Subnets",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = json.dumps({"status": {"conditions": [not_ready]}})
    kubectl("patch", "kwoknodeclass", "broken", "--subresource=status", "--type=merge", "-p", status)
    yield "broken"
    kubectl("delete", "kwoknodeclass", "broken")


def test_a_node_class_that_is_not_ready_ends_it_at_once(account: Account, planned: Resolved, broken_class: str) -> None:
    ladder = rungs("g5.xlarge", "g6e.xlarge")
    done = account.run(PROVISION, to_buy(planned, "broken", ladder, node_class=broken_class))
    assert done.code == 2
    assert done.error.startswith("no g5.xlarge (on-demand): configuration: ")
    assert "no other instance type would work either" in done.error
    assert "g6e" not in done.error
    released(account, "broken", "Failed")
    assert nothing_left("broken")


def test_a_node_class_that_is_not_there_is_named_with_those_that_are(account: Account, planned: Resolved) -> None:
    done = account.run(PROVISION, to_buy(planned, "nowhere", rungs("g5.xlarge"), node_class="gpus"))
    assert done.code == 2
    assert done.error.startswith("compute.node_class: no KWOKNodeClass named 'gpus': the cluster has default; ")
    assert pool_of("nowhere") is None


def test_a_node_that_never_gets_its_gpu_is_told_for_what_it_is(account: Account, planned: Resolved) -> None:
    """The node's GPU is removed before the node is ready, as without a device plugin."""
    with standing_still("kwok"):
        process, place = account.begin(PROVISION, to_buy(planned, "blind", rungs("g5.xlarge"), wait_minutes=0.5))
        (node,) = wait_for(lambda: nodes_of("blind"), 60)
        none = json.dumps({"status": {"allocatable": {"nvidia.com/gpu": "0"}, "capacity": {"nvidia.com/gpu": "0"}}})
        kubectl("patch", "node", node["metadata"]["name"], "--subresource=status", "--type=merge", "-p", none)
    process.wait(120)
    done = ended(process, place)
    assert done.code == 2
    assert done.error.startswith("no g5.xlarge (on-demand): driver: ")
    assert "nvidia.com/gpu" in done.error
    assert "device plugin" in done.error
    # It was paid for nevertheless.
    assert released(account, "blind", "Failed").outputs["released"].startswith("g5.xlarge after ")
    assert nothing_left("blind")


def test_a_machine_that_never_joins_is_given_up_and_the_next_rung_is_tried(account: Account, planned: Resolved) -> None:
    delay = {
        "apiVersion": f"{CLASS_GROUP}/v1alpha1",
        "kind": CLASS_KIND,
        "metadata": {"name": "slow"},
        "spec": {"nodeRegistrationDelay": "10m"},
    }
    kubectl("apply", "-f", "-", document=delay)
    try:
        done = account.run(PROVISION, to_buy(planned, "slow", rungs("g5.xlarge"), node_class="slow", wait_minutes=0.3))
        assert done.code == 2
        assert ": registration: " in done.error
        assert "has not joined the cluster" in done.error
        # A claim whose machine never came goes at once, or is about to.
        claims = objects("nodeclaims", f"karpenter.sh/nodepool={node_request.name_of('slow', SPACE)}")
        assert all("deletionTimestamp" in claim["metadata"] for claim in claims)
        assert released(account, "slow", "Failed").outputs["released"].startswith("g5.xlarge after ")
        assert nothing_left("slow")
    finally:
        kubectl("delete", "kwoknodeclass", "slow")


def test_killed_while_it_waits_it_goes_on_where_it_was(account: Account, planned: Resolved) -> None:
    inputs = to_buy(planned, "killed", rungs(SOLD_OUT, "g5.xlarge"))
    process, place = account.begin(PROVISION, inputs)
    # It has given up the first rung and requests the second.
    wait_for(lambda: "capacity: " in (place / "log.txt").read_text(), 120)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = account.run(PROVISION, inputs)
    assert done.code == 0, done.log
    first, second = done.outputs["attempts"].splitlines()
    assert first.startswith(SOLD_OUT)
    assert "waiting for g6.xlarge" not in done.log
    assert second.startswith("g5.xlarge")
    again = account.run(PROVISION, inputs)
    assert json.loads(again.outputs["hardware"])["node"] == json.loads(done.outputs["hardware"])["node"]
    assert len(nodes_of("killed")) == 1
    released(account, "killed")
    assert nothing_left("killed")


def test_after_the_evaluation_the_node_goes_and_its_cost_is_kept(account: Account, planned: Resolved) -> None:
    assert account.run(PROVISION, to_buy(planned, "early", rungs("g5.xlarge"))).code == 0
    done = account.run(RELEASE_NODE, {"run": "early"})
    assert done.code == 0, done.log
    assert done.outputs["released"].startswith("g5.xlarge after ")
    assert nothing_left("early")
    time.sleep(5)
    # The exit handler has nothing left to give back, and reports the same.
    assert released(account, "early").outputs["released"] == done.outputs["released"]


def test_a_node_that_came_in_the_place_of_a_lost_one_is_reckoned_at_its_own_price(
    account: Account, planned: Resolved
) -> None:
    """The cloud takes the spot node back, no spot is left, and the tuning's pod causes an on-demand node."""
    ladder = [*rungs("g5.xlarge", capacity="spot"), *rungs("g5.xlarge")]
    ladder[0] = ladder[0].model_copy(update={"price": 0.25})
    done = account.run(PROVISION, to_buy(planned, "lost", ladder, max_cost=2.0))
    patch = json.loads(filled_in(PLACED, done.outputs["placement"]))
    (main,) = patch.pop("containers")
    kubectl(
        "patch", "nodepool", node_request.name_of("lost", SPACE), "--type=json", "-p", json.dumps([ON_DEMAND_ALONE])
    )
    (claim,) = claims_of("lost")
    kubectl("delete", "nodeclaim", claim, "--wait=false")
    wait_for(lambda: claim not in claims_of("lost"), 120)
    spec = {**patch, "containers": [{**main, "image": "x"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "again", "namespace": SPACE}, "spec": spec}
    kubectl("apply", "-f", "-", document=restricted(pod))
    (other,) = wait_for(lambda: claims_of("lost"), 60)
    assert other != claim
    wait_for(lambda: nodes_of("lost"), 60)
    account.run(REAP, {})
    kubectl("delete", "pod", "again", "-n", SPACE, "--force")
    told = json.loads(pool_of("lost")["metadata"]["annotations"][node_request.PURCHASE_ANNOTATION])  # type: ignore[index]
    first, second = told["machines"]
    assert (first["instance_type"], first["price"], first["until"] is None) == ("g5.xlarge", 0.25, False)
    assert (second["capacity"], second["price"], second["until"]) == ("on-demand", ladder[1].price, None)
    assert released(account, "lost").outputs["released"].startswith("g5.xlarge, g5.xlarge after ")
    assert nothing_left("lost")


# The second of a pool's requirements, after the instance type, is the capacity type.
ON_DEMAND_ALONE = {"op": "replace", "path": "/spec/template/spec/requirements/1/values", "value": ["on-demand"]}


def claims_of(run: str) -> list[str]:
    found = objects("nodeclaims", f"karpenter.sh/nodepool={node_request.name_of(run, SPACE)}")
    return [claim["metadata"]["name"] for claim in found]


WORKFLOW: dict[str, Any] = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Workflow",
    "metadata": {"namespace": SPACE},
    "spec": {"suspend": True, "workflowTemplateRef": {"name": "finetune"}},
}


def test_the_reaper_takes_back_what_a_lost_run_has_left_and_nothing_else(
    account: Account, planned: Resolved, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three runs have a node: one is gone, one has ended without its exit handler, one is working.

    Of a fourth a holder is left, which no node was bought for; a fifth was retried in Argo's UI after it had ended.
    """
    pods = {"ghost": holder_of("ghost"), "retried": waiting_pod_of("retried")}
    for name, pod in pods.items():
        named = {**pod, "metadata": {**pod["metadata"], "name": name, "namespace": SPACE}}
        kubectl("apply", "-f", "-", document=restricted(named))
    retried = copy.deepcopy(WORKFLOW)
    retried["metadata"]["name"] = "retried"
    kubectl("apply", "-f", "-", document=retried)
    for seed, run in enumerate(("gone", "over", "works")):
        # Of runs that would make the same version, one would wait for the other's node.
        tune = planned.recipe.tune.model_copy(update={"seed": seed})
        own = planned.model_copy(update={"recipe": planned.recipe.model_copy(update={"tune": tune})})
        assert account.run(PROVISION, to_buy(own, run, rungs("g5.xlarge"))).code == 0
        if run != "gone":
            body = copy.deepcopy(WORKFLOW)
            body["metadata"]["name"] = run
            kubectl("apply", "-f", "-", document=body)
    long_ago = json.dumps({"status": {"phase": "Error", "finishedAt": "2026-01-01T00:00:00Z"}})
    kubectl("patch", "workflow", "over", "-n", SPACE, "--type=merge", "-p", long_ago)
    # A run that has just started is left alone, even without a Workflow: this one is reaped a while later.
    bought = bought_at("gone")
    before = time.time() - bought
    done = account.run(REAP, {})
    assert pool_of("over") is None
    if pool_of("gone"):
        assert before <= GRACE_SECONDS
    else:
        assert time.time() - bought > GRACE_SECONDS
    time.sleep(max(0.0, GRACE_SECONDS + 2 - (time.time() - bought_at("gone"))) if pool_of("gone") else 0)
    told = done.outputs["reaped"]
    done = account.run(REAP, {})
    assert done.code == 0, done.log
    assert "ghost: its run is gone" in told + done.outputs["reaped"]
    assert not uid_of("ghost")
    assert "retried: its node was given back when it ended" in told + done.outputs["reaped"]
    retried = get("workflow", "retried", SPACE)
    assert retried["spec"]["shutdown"] == "Stop"
    assert "submit it again" in retried["metadata"]["annotations"][STOPPED]
    kubectl("delete", "pod/retried", "workflow/retried", "-n", SPACE)
    assert nothing_left("gone")
    assert nothing_left("over")
    assert len(nodes_of("works")) == 1
    # Past its limit it is stopped; once it has ended, its node is given back too.
    noted = json.loads(pool_of("works")["metadata"]["annotations"][node_request.PURCHASE_ANNOTATION])  # type: ignore[index]
    noted |= {"max_hours": 0.5, "machines": [noted["machines"][0] | {"since": time.time() - 3600}]}
    past = {"metadata": {"annotations": {node_request.PURCHASE_ANNOTATION: json.dumps(noted)}}}
    kubectl("patch", "nodepool", node_request.name_of("works", SPACE), "--type=merge", "-p", json.dumps(past))
    over = account.run(REAP, {}).outputs["reaped"]
    assert over.startswith(
        "works: it is over its limits (max_cost 0, max_hours 0.5; 0: none) with g5.xlarge, g5.xlarge after 1h0"
    )
    assert get("workflow", "works", SPACE)["spec"]["shutdown"] == "Stop"
    kubectl("patch", "workflow", "works", "-n", SPACE, "--type=merge", "-p", long_ago)
    # The exit handler would report why it was stopped.
    assert why_stopped("works", SPACE) in over
    assert "its run ended" in account.run(REAP, {}).outputs["reaped"]
    assert nothing_left("works")
    assert account.run(REAP, {}).outputs["reaped"] == "nothing"


def holder_of(run: str) -> dict[str, Any]:
    labels = {node_request.RUN_LABEL: run, COMPONENT_LABEL: HOLDER}
    containers = [{"name": "main", "image": "x"}]
    spec = {"nodeSelector": {"no": "where"}, "containers": containers}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": labels}, "spec": spec}


def waiting_pod_of(run: str) -> dict[str, Any]:
    spec = {
        "nodeSelector": {"karpenter.sh/nodepool": node_request.name_of(run, SPACE)},
        "containers": [{"name": "main", "image": "x"}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {WORKFLOW_LABEL: run}}, "spec": spec}


def bought_at(run: str) -> float:
    from steps.common.kubernetes.cluster_objects import created_at

    pool = pool_of(run)
    return created_at(pool) if pool else time.time()


def test_only_provision_may_touch_node_pools(space: str) -> None:
    for name, allowed in (("fineline-provision", True), ("fineline-step", False), ("fineline-rollout", False)):
        user = f"system:serviceaccount:{space}:{name}"
        for verb in ("create", "delete", "patch"):
            told = kubectl("auth", "can-i", verb, "nodepools.karpenter.sh", f"--as={user}", check=False).stdout.strip()
            assert (told == "yes") is allowed, (name, verb)
    user = f"system:serviceaccount:{space}:fineline-provision"
    for what in ("secrets", "deployments.apps", "nodeclasses.eks.amazonaws.com"):
        assert kubectl("auth", "can-i", "create", what, "-n", space, f"--as={user}", check=False).stdout.strip() == "no"


def test_a_run_of_another_namespace_has_another_pool() -> None:
    assert node_request.name_of("store-1764039600", "one") != node_request.name_of("store-1764039600", "two")
    assert len(node_request.name_of("x" * 200, "one")) <= 63


def test_the_doctor_looks_at_the_class_that_the_settings_name(space: str) -> None:
    settings = {NODE_CLASS_SETTING: f"{CLASS_GROUP}/{CLASS_KIND}", CLOUD_SETTING: "aws", ONE_NODE_SETTING: None}
    kubectl("patch", "configmap", "fineline", "-n", space, "--type=merge", "-p", json.dumps({"data": settings}))
    assert brought(space)[0]["text"] == f"Karpenter, with {CLASS_KIND} default"
    kubectl("delete", "clusterrolebinding", "fineline-kwok")
    assert wait_for(lambda: lacking_rights(space), 120)  # the API server takes a moment to see it
    (lacking,) = lacking_rights(space)
    assert lacking["text"] == "fineline-provision may not list kwoknodeclasses"
    try:
        remedy = lacking["remedy"].replace("kubectl", shutil.which("kubectl") or str(BUILT))
        subprocess.run(remedy, shell=True, check=True)
        assert wait_for(lambda: not lacking_rights(space), 120)
    finally:
        made = f"fineline-kwoknodeclasses.{space}"  # by the remedy
        kubectl("delete", "clusterrole,clusterrolebinding", made, "--ignore-not-found")
    wrong = json.dumps({"data": {NODE_CLASS_SETTING: CLASS_KIND}})
    kubectl("patch", "configmap", "fineline", "-n", space, "--type=merge", "-p", wrong)
    assert "set the first to GROUP/KIND" in brought(space)[0]["text"]


def lacking_rights(space: str) -> list[dict[str, Any]]:
    return [one for one in brought(space) if "may not list" in one["text"]]


def brought(space: str) -> list[dict[str, Any]]:
    done = fineline("doctor", "-n", space, "--json")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return [one for one in found if one["subject"] == "GPU nodes for runs"]
