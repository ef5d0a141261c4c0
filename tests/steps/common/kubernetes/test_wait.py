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


def event(reason: str, message: str, second: int = 0, pod: str = "1") -> Any:
    body = {
        "metadata": {"name": "e"},
        "involvedObject": {"uid": pod},
        "reason": reason,
        "message": message,
        "lastTimestamp": f"2026-01-02T03:04:{second:02}Z",
    }
    return parsed(body, "CoreV1Event")


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
}
CRASHED = {"terminated": {"reason": "Error", "exitCode": 1, "message": "no such\nmodel"}}
LOOPING = waiting("CrashLoopBackOff", "back-off 20s", restartCount=2, lastState=CRASHED)
# As kubelet 1.34 with containerd 1.6 reports them.
NOT_FOUND = 'rpc error: code = NotFound desc = failed to pull and unpack image "server:2": server:2: not found'
MISSING_IMAGE = waiting("ImagePullBackOff", f'Back-off pulling image "server:2": ErrImagePull: {NOT_FOUND}')
BACK_OFF = waiting("ImagePullBackOff", 'Back-off pulling image "server:2"')
CREATION_TIMEOUT = waiting("CreateContainerError", "context deadline exceeded")
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
        ([MISSING_IMAGE, waiting("ErrImagePull", NOT_FOUND), waiting("ContainerCreating")], 60),
        ([waiting("ErrImagePull", NOT_FOUND), *[BACK_OFF] * 29], 60),
        ([MISSING_SECRET], 60),
        ([MISSING_KEY], 60),
        ([CREATION_TIMEOUT], 180),
        ([BACK_OFF], None),
        ([NO_NODE], None),
        ([waiting("ContainerCreating")], None),
    ],
    ids=[
        "crash-loop",
        "image-name",
        "ended",
        "image",
        "image-older-kubelet",
        "secret",
        "key",
        "creation-timeout",
        "back-off-without-error",
        "no-node",
        "starting",
    ],
)
def test_it_gives_up_where_waiting_is_pointless(found: list[Any], seconds: int | None) -> None:
    assert gave_up_after(found) == seconds


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        ("server:2: not found", 60),
        ("reading manifest 2 in server: manifest unknown", 60),
        ("pull access denied, repository does not exist or may require authorization", 60),
        ("pulling from host ghcr.io failed with status code [manifests 2]: 401 Unauthorized", 60),
        ("pulling from host ghcr.io failed with status code [manifests 2]: 403 Forbidden", 60),
        (f"{'failed to resolve reference ' * 30}: not found", 60),
        ("dial tcp 127.0.0.1:443: connect: connection refused", None),
        ("dial tcp: lookup ghcr.io on 10.96.0.10:53: no such host", None),
        ("pulling from host ghcr.io failed with status code [manifests 2]: 503 Service Unavailable", None),
        ("429 Too Many Requests - Server message: toomanyrequests", None),
        ("context deadline exceeded", None),
    ],
)
def test_it_gives_up_on_an_image_only_if_pulling_again_cannot_help(error: str, seconds: int | None) -> None:
    """Kubelet reports the back-off of the last pull while the next one runs."""
    back_off = waiting("ImagePullBackOff", f'Back-off pulling image "server:2": ErrImagePull: {error}')
    assert gave_up_after([waiting("ErrImagePull", error), *[back_off] * 9]) == seconds
    assert "cannot pull the image server:2: ImagePullBackOff" in why_not_started([back_off])


def test_an_image_that_may_never_be_pulled_is_given_up() -> None:
    absent = waiting("ErrImageNeverPull", 'Container image "server:2" is not present with pull policy of Never')
    assert gave_up_after([absent]) == 60


def test_events_of_a_problem_that_is_solved_do_not_count() -> None:
    missing = event("FailedMount", 'secret "a" not found', 10)
    starting = [waiting("ContainerCreating")]
    assert gave_up_after(starting, events=[missing, event("Pulling", "pulling", 20)]) is None
    assert gave_up_after(starting, events=[event("Pulling", "pulling", 5), missing]) == 60
    assert gave_up_after(starting, events=[missing, event("Pulling", "pulling", 20, pod="2")]) == 60


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
