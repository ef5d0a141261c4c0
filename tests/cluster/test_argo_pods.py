"""What Argo's own controller makes of the fixed pod patches and of steps without a token. Skipped where there is none."""

import base64
import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipelines.cluster.argo_nodes import ended
from pipelines.workflows.step_pods.containers import (
    CONTROL_IMAGE,
    EXECUTOR_ACCOUNT,
    LOST,
    POD_SECURITY,
    PULL_ACCOUNT,
    SECURITY,
    STEP_ACCOUNT,
)
from pipelines.workflows.step_pods.pod_patch import EXECUTOR, EXECUTOR_RESOURCES, PLACED
from steps.common.nodes.pod_placement import Placement
from tests.support.commands import happens, wait_for
from tests.support.kubectl import ROOT, get, kubectl

SMALL = Placement(cpu_millis=50, memory_bytes=64 << 20, memory_limit_bytes=128 << 20, grace_seconds=7)
ENDS_THE_STRING = 'a"}, "hostNetwork": true, "x": {"y": "'
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
TMP = {"name": "tmp", "mountPath": "/tmp"}


def decoding(text: str) -> str:
    """Return an expression that Argo evaluates to the text."""
    return f"{{{{=sprig.b64dec('{base64.b64encode(text.encode()).decode()}')}}}}"


@pytest.fixture(scope="module")
def space(crds: None, images: None) -> Iterator[str]:
    """A namespace that admits only restricted pods, with the accounts, and with a controller that picks up its workflows."""
    name = f"fineline-argo-pods-{secrets.token_hex(3)}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    kubectl("apply", "-n", name, "--server-side", "-f", str(ROOT / "argo/base/accounts.yaml"))
    try:
        probe = begun(name, SMALL.model_dump_json())
        if not happens(lambda: get("workflow", probe, name).get("status", {}).get("phase")):
            pytest.skip("no Argo controller takes up the cluster's workflows")
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


def script(lines: list[str]) -> dict[str, Any]:
    return {
        "image": "fineline-control:0.1.0",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python"],
        "source": "\n".join(["import base64, os", *lines]),
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}},
        "securityContext": SECURITY.model_dump(by_alias=True, exclude_none=True),
        "volumeMounts": [TMP],
    }


def created(space: str, prefix: str, templates: list[dict[str, Any]]) -> str:
    """Create a workflow that begins with the template `main`, as ours run, and return its name."""
    spec = {
        "entrypoint": "main",
        "serviceAccountName": STEP_ACCOUNT,
        "executor": {"serviceAccountName": EXECUTOR_ACCOUNT},
        "podSpecPatch": EXECUTOR,
        "securityContext": POD_SECURITY.model_dump(by_alias=True, exclude_none=True),
        "templates": templates,
    }
    metadata = {"generateName": prefix, "namespace": space}
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": metadata, "spec": spec}
    return kubectl("create", "-f", "-", "-o", "jsonpath={.metadata.name}", document=body).stdout


def begun(space: str, placement: str) -> str:
    """Start a workflow whose first step hands a placement on, whatever it contains, and return the workflow's name."""
    encoded = base64.b64encode(placement.encode()).decode()
    tells = f"open('/tmp/out', 'w').write(str(os.path.exists('{TOKEN}')))"
    hands_on = f"open('/tmp/placement', 'w').write(base64.b64decode('{encoded}').decode())"
    of_the_first = "{{tasks.provision.outputs.parameters.placement}}"

    def output(name: str, path: str) -> dict[str, Any]:
        return {"name": name, "valueFrom": {"path": path}}

    shared: dict[str, Any] = {"volumes": [{"name": "tmp", "emptyDir": {}}]}
    provision = {
        "name": "provision",
        "serviceAccountName": PULL_ACCOUNT,
        "script": script([hands_on, tells]),
        "outputs": {"parameters": [output("placement", "/tmp/placement"), output("token", "/tmp/out")]},
    }
    tune = {
        "name": "tune",
        "automountServiceAccountToken": False,
        "podSpecPatch": PLACED,
        "inputs": {"parameters": [{"name": "placement"}]},
        "script": script([tells]),
        "outputs": {"parameters": [output("token", "/tmp/out")]},
    }
    tasks = [
        {"name": "provision", "template": "provision"},
        {
            "name": "tune",
            "template": "tune",
            "depends": "provision",
            "arguments": {"parameters": [{"name": "placement", "value": of_the_first}]},
        },
    ]
    return created(space, "placed-", [{"name": "main", "dag": {"tasks": tasks}}, shared | provision, shared | tune])


def tune_pod(space: str, run: str) -> dict[str, Any] | None:
    """Return the specification of the second step's pod; an empty one if the workflow has ended without it."""
    listed = kubectl("get", "pods", "-n", space, "-l", f"workflows.argoproj.io/workflow={run}", "-o", "json").stdout
    for pod in json.loads(listed)["items"]:
        if "-tune-" in pod["metadata"]["name"]:
            return dict(pod["spec"])
    phase = get("workflow", run, space).get("status", {}).get("phase")
    return {} if phase in ("Failed", "Error") else None


def by_name(pod: dict[str, Any], field: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    return {one["name"]: field(one) for one in [*pod["initContainers"], *pod["containers"]]}


def test_a_step_without_a_token_runs_and_argos_containers_report_it(space: str) -> None:
    run = begun(space, SMALL.model_dump_json())
    wait_for(lambda: get("workflow", run, space).get("status", {}).get("phase") == "Succeeded", 180)
    nodes = get("workflow", run, space)["status"]["nodes"].values()
    told = {
        node["displayName"]: parameter["value"]
        for node in nodes
        for parameter in (node.get("outputs") or {}).get("parameters", [])
        if parameter["name"] == "token"
    }
    assert told == {"provision": "True", "tune": "False"}
    pod = tune_pod(space, run)
    assert pod
    assert (pod["terminationGracePeriodSeconds"], pod["nodeSelector"]) == (7, {"kubernetes.io/os": "linux"})
    resources = by_name(pod, lambda one: one["resources"])
    assert resources["init"] == resources["wait"] == EXECUTOR_RESOURCES
    assert resources["main"]["requests"] == {"cpu": "50m", "memory": str(64 << 20)}
    tokens = by_name(pod, lambda one: [m["name"] for m in one["volumeMounts"] if m["mountPath"] in TOKEN])
    assert tokens == {"init": ["exec-sa-token"], "wait": ["exec-sa-token"], "main": []}


@pytest.mark.parametrize(
    "placement",
    [
        SMALL.model_dump_json().replace("linux", decoding(decoding(ENDS_THE_STRING))),
        json.dumps(SMALL.model_dump() | {"node_value": ENDS_THE_STRING, "run_taint": ENDS_THE_STRING, "gpus": 1}),
        json.dumps(SMALL.model_dump() | {"hostNetwork": True, "volumes": [], "serviceAccountName": PULL_ACCOUNT}),
        '{"hostNetwork": true}',
    ],
)
def test_no_output_of_a_step_adds_a_field_to_a_pod(space: str, placement: str) -> None:
    run = begun(space, placement)
    pod = wait_for(lambda: tune_pod(space, run) is not None, 120) and tune_pod(space, run)
    if not pod:  # Argo has refused to create it
        return
    assert "hostNetwork" not in pod
    assert pod["serviceAccountName"] == STEP_ACCOUNT
    assert by_name(pod, lambda one: one["image"])["main"] == "fineline-control:0.1.0"
    assert len(pod["nodeSelector"]) == 1


# As a step ends when its pod is taken away: in order, with 75.
ENDS_IN_ORDER = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); time.sleep(int(sys.argv[1]))"
)


@pytest.mark.parametrize(
    ("code", "deadline", "attempts", "message"),
    [
        (ENDS_IN_ORDER, 20, 1, "Pod was active on the node longer than the specified deadline"),
        ("import sys; sys.exit(75)", 600, 2, "exit code 75"),
    ],
)
def test_a_step_whose_deadline_has_passed_is_not_retried_and_one_that_was_lost_is(
    space: str, code: str, deadline: int, attempts: int, message: str
) -> None:
    retried = {"limit": "1", "retryPolicy": "Always", "expression": LOST, "backoff": {"duration": "1s"}}
    container = {
        "image": CONTROL_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", code, "600"],
        "securityContext": SECURITY.model_dump(exclude_none=True, by_alias=True),
    }
    main = {"name": "main", "activeDeadlineSeconds": deadline, "retryStrategy": retried, "container": container}
    name = created(space, "deadline-", [main])
    wait_for(lambda: ended(get("workflow", name, space)), 240)
    status = get("workflow", name, space)["status"]
    pods = [node for node in status["nodes"].values() if node["type"] == "Pod"]
    assert status["phase"] == "Failed"
    assert len(pods) == attempts, pods
    assert all(message in pod["message"] for pod in pods)
