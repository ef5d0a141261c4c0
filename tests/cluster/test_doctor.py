"""The doctor's findings on a real cluster, in a complete namespace and in ones that lack something."""

import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cluster.doctor.finding import INSTALL
from steps.common.nodes.node_request import NAMESPACE_LABEL
from tests.support.commands import fineline
from tests.support.kubectl import BUILT, ROOT, get, kubectl
from tests.support.overlay import OUTSIDE, install

KUBECTL = shutil.which("kubectl") or str(BUILT)


def found(namespace: str, *options: str, environment: dict[str, str] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return the findings by subject."""
    done = fineline("doctor", "-n", namespace, "--json", *options, environment=environment)
    assert "Traceback" not in done.stderr, done.stderr
    told: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(done.stdout):
        told.setdefault(finding["subject"], []).append(finding)
    missing = any(finding["state"] == "missing" for findings in told.values() for finding in findings)
    assert done.returncode == (2 if missing else 0)
    return told


@pytest.fixture
def space(crds: None) -> Iterator[str]:
    name = f"fineline-doctor-{secrets.token_hex(3)}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")
    kubectl("delete", OUTSIDE, "-l", f"{NAMESPACE_LABEL}={name}")


def test_where_all_is_installed_nothing_is_missing(namespace: str) -> None:
    told = found(namespace)
    assert not [f for findings in told.values() for f in findings if f["state"] == "missing"]
    assert told["MLflow"][0]["text"] == "http://fineline-mlflow is ready"
    assert told["templates"][0]["state"] == "ok"
    assert "ready: fineline submit" in fineline("doctor", "-n", namespace).stdout


def test_in_an_empty_namespace_each_thing_is_named_with_its_remedy(space: str) -> None:
    told = found(space)
    for subject in ("templates", "steps' permissions", "admission", "volumes", "MLflow"):
        assert told[subject][0]["state"] == "missing", subject
        assert told[subject][0]["remedy"], subject
    (hub, *_) = told["secrets"]
    assert hub["remedy"] == f"kubectl create secret generic fineline-hub -n {space} --from-literal=token=…"
    (key,) = [finding for finding in told["secrets"] if finding["text"].startswith("fineline-api-key")]
    assert key["state"] == "missing"  # required, unless the ConfigMap says otherwise
    assert key["remedy"] == f"kubectl create secret generic fineline-api-key -n {space} --from-literal=key=…"


def test_a_namespace_that_is_not_there_is_all_that_is_told() -> None:
    told = found("no-such-namespace")
    assert told["namespace"][0]["remedy"] == INSTALL
    assert set(told) == {"cluster", "namespace"}


def test_an_mlflow_that_asks_for_a_login_needs_its_secret(space: str) -> None:
    kubectl("apply", "-n", space, "-f", str(ROOT / "argo" / "components" / "mlflow-auth" / "settings.yaml"))
    (login,) = [finding for finding in found(space)["secrets"] if finding["text"].startswith("fineline-mlflow")]
    assert login["state"] == "missing"
    create = (
        f"kubectl create secret generic fineline-mlflow -n {space} --from-literal=username=… --from-literal=password=…"
    )
    assert login["remedy"] == create
    assert "it does not start without" in login["text"]


def test_a_secret_without_its_key_is_missing_and_no_value_is_shown(space: str) -> None:
    kubectl("create", "secret", "generic", "team-hub", "-n", space, "--from-literal=tokn=very-secret")
    kubectl("create", "secret", "generic", "team-api-key", "-n", space, "--from-literal=key=very-secret")
    done = fineline("doctor", "-n", space, "--secrets", "team")
    assert "team-hub has no value for 'token'" in done.stdout
    assert "team-api-key is set\n" in done.stdout
    assert "very-secret" not in done.stdout + done.stderr
    kubectl("patch", "secret", "team-api-key", "-n", space, "-p", '{"stringData": {"previous": "very-secret"}}')
    done = fineline("doctor", "-n", space, "--secrets", "team")
    assert "team-api-key is set; its 'previous' is accepted too" in done.stdout
    remove = """--type=json -p '[{"op": "remove", "path": "/data/previous"}]'"""
    assert f"    kubectl patch secret team-api-key -n {space} {remove}\n" in done.stdout
    assert "very-secret" not in done.stdout + done.stderr


def test_a_class_of_storage_that_is_not_there_is_named(space: str, tmp_path: Path) -> None:
    wanted = yaml.safe_dump([{"op": "add", "path": "/spec/storageClassName", "value": "fast"}])
    patch = {"target": {"kind": "PersistentVolumeClaim", "name": "fineline-runs"}, "patch": wanted}
    install(tmp_path, space, patches=[patch])
    told = {finding["text"].split()[0].rstrip(":"): finding for finding in found(space)["volumes"]}
    assert told["fineline-runs"]["state"] == "missing"
    assert "requests the StorageClass 'fast', which does not exist" in told["fineline-runs"]["text"]


@pytest.mark.parametrize("of", ["limits", "requests"])
def test_a_quota_on_cpu_and_memory_admits_what_runs_create(space: str, of: str, tmp_path: Path) -> None:
    """Every container has requests and limits, that of the pod with which the doctor tries an image too."""
    kubectl("create", "quota", "company", "-n", space, f"--hard={of}.cpu=64,{of}.memory=64Gi")
    install(tmp_path, space, "registry")
    told = found(space)
    assert told["quotas"][0]["state"] == "ok"
    assert "failed quota" not in told["images"][0]["text"]
    pods = kubectl("get", "pods", "-n", space, "-l", "app.kubernetes.io/component=mlflow", "-o", "name").stdout
    assert pods.startswith("pod/fineline-mlflow-")


def test_a_quota_that_refuses_the_pod_that_tries_an_image_ends_nothing(space: str, tmp_path: Path) -> None:
    install(tmp_path, space, "registry")
    kubectl("create", "quota", "tight", "-n", space, "--hard=pods=0")
    told = found(space)
    assert "the test pod cannot be created: " in told["images"][0]["text"]
    assert "exceeded quota: tight" in told["images"][0]["text"]
    assert any(finding["state"] == "missing" for finding in told["quotas"])


def test_templates_that_differ_in_anything_are_of_another_version(space: str, tmp_path: Path) -> None:
    install(tmp_path, space)
    assert found(space)["templates"][0]["state"] == "ok"
    change = [{"op": "replace", "path": "/spec/templates/0/retryStrategy/limit", "value": 0}]
    kubectl("patch", "workflowtemplate", "finetune", "-n", space, "--type=json", "-p", json.dumps(change))
    (templates,) = found(space)["templates"]
    assert templates["state"] == "note"
    assert templates["text"].endswith(": finetune")


def test_an_mlflow_that_is_ready_and_refuses_the_name_of_its_service_is_told(space: str, tmp_path: Path) -> None:
    install(tmp_path, space)
    pod = "/spec/template/spec"
    probe = {"httpGet": {"path": "/health", "port": 5000}}
    args = get("deployment", "fineline-mlflow", space)["spec"]["template"]["spec"]["containers"][0]["args"]
    args = [text if "allowed-hosts" not in text else "--allowed-hosts=localhost:*" for text in args]
    changes = [
        {"op": "replace", "path": f"{pod}/containers/0/args", "value": args},
        {"op": "replace", "path": f"{pod}/containers/0/readinessProbe", "value": probe},
        # The pod's own volumes, which its user may write on any cluster.
        {"op": "replace", "path": f"{pod}/volumes", "value": [{"name": n, "emptyDir": {}} for n in ("tmp", "data")]},
    ]
    kubectl("patch", "deployment", "fineline-mlflow", "-n", space, "--type=json", "-p", json.dumps(changes))
    kubectl("rollout", "status", "deployment/fineline-mlflow", "-n", space, "--timeout=180s")
    (mlflow,) = found(space)["MLflow"]
    assert mlflow["state"] == "missing"
    assert "answers 403 to requests for the host 'fineline-mlflow'" in mlflow["text"]
    assert "--allowed-hosts=" in mlflow["remedy"]


def test_an_image_that_cannot_be_pulled_is_named_and_no_pod_stays(space: str, tmp_path: Path) -> None:
    install(tmp_path, space, "registry")
    (image,) = found(space)["images"]
    assert image["state"] == "missing"
    assert image["text"].startswith("registry.example.com/fineline-control:0.1.0: ")
    pods = kubectl("get", "pods", "-n", space, "-o", "jsonpath={.items[*].metadata.name}").stdout
    assert "fineline-doctor-" not in pods


@pytest.fixture
def stranger(space: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a user without permissions, with MLflow installed and stopped."""
    install(tmp_path, space)
    kubectl("scale", "deployment/fineline-mlflow", "-n", space, "--replicas=0")
    kubectl("create", "serviceaccount", "stranger", "-n", space)
    token = kubectl("create", "token", "stranger", "-n", space).stdout.strip()
    config = yaml.safe_load(kubectl("config", "view", "--raw", "--minify").stdout)
    config["users"][0]["user"] = {"token": token}
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return {"KUBECONFIG": str(file)}


def test_who_may_nothing_is_told_so_of_each_thing(space: str, stranger: dict[str, str]) -> None:
    told = found(space, environment=stranger)
    assert [subject for subject, (first, *_) in told.items() if first["state"] == "missing"] == ["your permissions"]
    for subject in (
        "Argo's controller",
        "templates",
        "steps' permissions",
        "admission",
        "volumes",
        "GPUs",
        "images",
        "quotas",
        "MLflow",
        "secrets",
    ):
        assert told[subject][0]["state"] == "unknown", subject


def test_bound_to_the_role_that_is_there_for_it_a_user_may_submit(space: str, stranger: dict[str, str]) -> None:
    kubectl("create", "rolebinding", "me", "-n", space, "--role=fineline-user", f"--serviceaccount={space}:stranger")
    told = found(space, environment=stranger)
    assert told["your permissions"][0]["state"] == "ok"
    assert told["GPUs"][0]["state"] == "unknown"
    assert told["MLflow"][0]["text"] == "http://fineline-mlflow: none of its pods is ready"


def test_a_cluster_out_of_reach_is_one_line(tmp_path: Path) -> None:
    config = yaml.safe_load(kubectl("config", "view", "--raw", "--minify").stdout)
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    done = fineline("doctor", "-n", "x", environment={"KUBECONFIG": str(file)})
    assert done.returncode == 2
    assert done.stderr.startswith("fineline: cannot reach the cluster: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_who_looks_for_gpu_nodes_has_to_be_allowed_to(space: str, tmp_path: Path) -> None:
    install(tmp_path, space, "gpu-nodes")
    kubectl("delete", "clusterrolebinding", f"fineline-nodes.{space}")
    try:
        there, lacking = found(space)["GPU nodes for runs"]
        assert there["state"] == "ok"
        assert lacking["text"] == "fineline-plan may not list nodes"
        subprocess.run(lacking["remedy"].replace("kubectl", KUBECTL), shell=True, check=True)
        assert [one["state"] for one in found(space)["GPU nodes for runs"]] == ["ok"]
    finally:
        kubectl("delete", "clusterrolebinding", f"fineline-nodes.{space}", "--ignore-not-found")
