"""Why pods do not start, as kubelet and the scheduler report it, and when waiting for them is given up."""

import json
from typing import Any

import pytest

from steps.common.kubernetes.wait import StartWatch, start_problems, why_not_created, why_not_ready, why_not_started


def parsed(body: dict[str, Any], kind: str) -> Any:
    from kubernetes.client import ApiClient

    return ApiClient().deserialize(json.dumps(body), kind, "application/json")


def pod(phase: str = "Pending", restart: str = "Always", conditions: Any = (), **container: Any) -> Any:
    """A pod of one container, as the API server describes it."""
    status = {"name": "server", "image": "server:2", "imageID": "", "ready": False, "restartCount": 0, **container}
    body = {
        "metadata": {"name": "store-v1-abc", "namespace": "shop", "uid": "1"},
        "spec": {"restartPolicy": restart, "nodeName": "a", "containers": [{"name": "server"}]},
        "status": {"phase": phase, "conditions": list(conditions), "containerStatuses": [status] if container else []},
    }
    return parsed(body, "V1Pod")


def waiting(reason: str, message: str = "", **more: Any) -> Any:
    return pod(state={"waiting": {"reason": reason, "message": message}}, **more)


def event(reason: str, message: str) -> Any:
    body = {"metadata": {"name": "e"}, "involvedObject": {}, "reason": reason, "message": message}
    return parsed(body, "CoreV1Event")


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
}
CRASHED = {"terminated": {"reason": "Error", "exitCode": 1, "message": "no such\nmodel"}}
LOOPING = waiting("CrashLoopBackOff", "back-off 20s", restartCount=2, lastState=CRASHED)
MISSING_IMAGE = waiting("ImagePullBackOff", 'Back-off pulling image "server:2"')
MISSING_SECRET = waiting("CreateContainerConfigError", 'secret "fineline-hub" not found')
MISSING_KEY = waiting("CreateContainerConfigError", "couldn't find key token in Secret shop/fineline-hub")
BAD_NAME = waiting("InvalidImageName", "couldn't parse image name")
NO_NODE = pod(conditions=[UNSCHEDULABLE])
ENDED = pod("Failed", restart="Never", state=CRASHED)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (MISSING_IMAGE, ["container server", "server:2", "ImagePullBackOff", "imagePullSecrets"]),
        (BAD_NAME, ["container server", "InvalidImageName", "couldn't parse image name"]),
        (MISSING_SECRET, ['secret "fineline-hub" not found', "create it in namespace shop"]),
        (MISSING_KEY, ["couldn't find key token in Secret shop/fineline-hub", "create it in namespace shop"]),
        (
            LOOPING,
            ["container server", "ended 3 times", "exit code 1: no such model", "kubectl logs store-v1-abc -c server"],
        ),
        (NO_NODE, ["no node can run the pod", "Insufficient nvidia.com/gpu"]),
        (ENDED, ["exit code 1: no such model"]),
    ],
    ids=["image", "image-name", "secret", "key", "crash-loop", "no-node", "ended"],
)
def test_it_says_why_a_pod_does_not_start(found: Any, says: list[str]) -> None:
    text = why_not_started([found])
    assert all(part in text for part in says), text
    assert "\n" not in text


@pytest.mark.parametrize(
    "found",
    [
        waiting("PodInitializing"),
        waiting("ContainerCreating"),
        pod("Running", state={"running": {}}, ready=True, restartCount=40, lastState=CRASHED),
        pod("Running", state={"running": {}}, restartCount=1, lastState=CRASHED),
        pod("Failed"),  # evicted: its Deployment has replaced it
    ],
)
def test_it_says_nothing_while_nothing_is_wrong(found: Any) -> None:
    assert why_not_started([found]) == ""


def test_events_tell_of_a_volume_that_cannot_be_mounted() -> None:
    told = event("FailedMount", "MountVolume.MountDevice failed for volume pvc-1:\n timed out")
    found = [waiting("ContainerCreating")]
    assert why_not_started(found, [told]) == "FailedMount: MountVolume.MountDevice failed for volume pvc-1: timed out"
    assert why_not_started(found, [event("Pulling", "pulling")]) == ""


def test_a_deployment_tells_of_a_quota_that_is_full() -> None:
    quota = {"type": "ReplicaFailure", "status": "True", "message": 'pods "a" is forbidden: exceeded quota: small'}
    spec: Any = {"selector": {}, "template": {}}
    full = why_not_created(parsed({"spec": spec, "status": {"conditions": [quota]}}, "V1Deployment"))
    assert why_not_started([], (), full) == f"no pod can be created: {quota['message']}"
    assert why_not_ready([], (), full) == f"no pod can be created: {quota['message']}"
    assert why_not_created(parsed({"spec": spec, "status": {}}, "V1Deployment")) == ""


def test_the_most_serious_problem_comes_first() -> None:
    assert [one.problem for one in start_problems([NO_NODE, MISSING_IMAGE, LOOPING])] == [
        "crash loop",
        "image",
        "no node",
    ]


def gave_up_after(found: list[Any], seconds: int = 3600, **more: Any) -> int | None:
    """Look once a second; return when it was given up."""
    now = 0.0
    watch = StartWatch("store-v1", lambda: now)
    for second in range(seconds):
        now = float(second)
        if watch.will_never_start([found[second % len(found)]], **more):
            return second
    return None


@pytest.mark.parametrize(
    ("found", "seconds"),
    [
        ([LOOPING], 0),
        ([BAD_NAME], 0),
        ([ENDED], 0),
        # kubelet alternates between the two, and reports nothing while it tries again.
        ([MISSING_IMAGE, waiting("ErrImagePull"), waiting("ContainerCreating")], 60),
        ([MISSING_SECRET], 60),
        ([NO_NODE], None),
        ([waiting("ContainerCreating")], None),
    ],
    ids=["crash-loop", "image-name", "ended", "image", "secret", "no-node", "starting"],
)
def test_it_gives_up_where_waiting_is_pointless(found: list[Any], seconds: int | None) -> None:
    assert gave_up_after(found) == seconds


def test_it_waits_for_a_volume_and_a_quota_but_not_for_a_policy() -> None:
    starting = [waiting("ContainerCreating")]
    assert gave_up_after(starting, events=[event("FailedAttachVolume", "Multi-Attach error")]) is None
    assert gave_up_after(starting, events=[event("FailedMount", 'secret "a" not found')]) == 60
    assert gave_up_after(starting, not_created="exceeded quota: small") is None
    assert gave_up_after(starting, not_created="violates PodSecurity") == 60


def test_a_registry_that_recovers_is_forgiven() -> None:
    minutes_apart = [MISSING_IMAGE] * 50 + [pod("Running", state={"running": {}}, ready=True)] * 60
    assert gave_up_after(minutes_apart) is None


def test_a_line_is_printed_when_the_state_changes_or_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    watch = StartWatch("store-v1", lambda: now)
    for second in range(100):
        now = float(second)
        watch.will_never_start([NO_NODE if second < 45 else waiting("ContainerCreating")])
    lines = capsys.readouterr().err.splitlines()
    no_node = "progress: waiting for store-v1: no node can run the pod: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    assert lines == [
        no_node,
        f"{no_node}, 30s",
        "progress: waiting for store-v1, 45s",
        "progress: waiting for store-v1, 1m15s",
    ]
