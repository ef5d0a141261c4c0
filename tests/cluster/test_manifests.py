"""The manifests: complete, strict, within one namespace; roles and policies allow what is needed and nothing else."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.workflows.rendered import BUILDERS
from steps.rollout.gateway.upstream import Upstream
from steps.rollout.pods import version_objects
from steps.rollout.pods.version_objects import VersionSpec, deployment
from tests.support.kubectl import ROOT, kubectl, may
from tests.support.overlay import overlay as write_overlay

OVERLAYS = ("kind", "aks", "eks", "gke")
CLUSTER_ROLES = {"ClusterRole", "ClusterRoleBinding"}
POLICIES = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
CLUSTER_SCOPED = {*CLUSTER_ROLES, *POLICIES, "Namespace", "PersistentVolume", "StorageClass", "NodePool"}
SPACE = "fineline-manifests"


def built(overlay: str) -> list[dict[str, Any]]:
    text = kubectl("kustomize", str(ROOT / "argo" / "overlays" / overlay)).stdout
    return [document for document in yaml.safe_load_all(text) if document]


@pytest.fixture(scope="module")
def space(crds: None) -> Any:
    kubectl("create", "namespace", SPACE)
    yield SPACE
    kubectl("delete", "namespace", SPACE, "--wait=false")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_server_takes_every_overlay_field_by_field(overlay: str, space: str, tmp_path: Path) -> None:
    place = str(write_overlay(tmp_path, space, upon=f"overlays/{overlay}"))
    kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-k", place)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An overlay for a cluster that pulls from one registry, with a login, by digest, and that requires a PriorityClass."""
    folder = tmp_path_factory.mktemp("argo") / "argo"
    shutil.copytree(ROOT / "argo", folder)
    registry = folder / "components/registry/kustomization.yaml"
    registry.write_text(registry.read_text().replace("  # - {name", "  - {name").replace("newTag: 0.1.0", DIGEST))
    overlay = folder / "overlays/kind/kustomization.yaml"
    wanted = yaml.safe_load(overlay.read_text())
    names = ("vllm", "api", "pull-secret", "priority-class", "cloud-identity", "registry")
    wanted["components"] += [f"../../components/{name}" for name in names]
    wanted |= {"namespace": SPACE, "transformers": ["../../per-namespace"]}
    overlay.write_text(yaml.safe_dump(wanted))
    yield overlay.parent


DIGEST = f'digest: "sha256:{"0" * 64}"'


def test_every_image_is_set_in_one_place(company: Path) -> None:
    found = list(yaml.safe_load_all(kubectl("kustomize", str(company)).stdout))
    (settings,) = (one["data"] for one in found if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "fineline")
    images = {value for key, value in settings.items() if key.endswith("_IMAGE")}
    for one in found:
        if one["kind"] == "WorkflowTemplate":
            images |= {template["script"]["image"] for template in one["spec"]["templates"] if "script" in template}
            assert one["spec"]["imagePullSecrets"] == [{"name": settings["FINELINE_IMAGE_PULL_SECRETS"]}]
            assert one["spec"]["podPriorityClassName"] == settings["FINELINE_PRIORITY_CLASS"]
        if one["kind"] == "Deployment":
            pod = one["spec"]["template"]["spec"]
            images |= {container["image"] for container in pod["containers"]}
            assert pod["imagePullSecrets"] == [{"name": settings["FINELINE_IMAGE_PULL_SECRETS"]}]
            assert pod["priorityClassName"] == settings["FINELINE_PRIORITY_CLASS"]
    assert len(images) == 6
    assert {image.partition("/")[0] for image in images} == {"registry.example.com"}
    assert sum("@sha256:" in image for image in images) == 3


def test_the_api_server_takes_what_a_company_adds(company: Path, space: str) -> None:
    kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-k", str(company))


def test_every_container_of_the_manifests_has_requests_and_limits() -> None:
    for overlay in OVERLAYS:
        for one in built(overlay):
            containers = one["spec"]["template"]["spec"]["containers"] if one["kind"] == "Deployment" else []
            if one["kind"] == "WorkflowTemplate":
                containers = [template["script"] for template in one["spec"]["templates"] if "script" in template]
            for container in containers:
                given = container["resources"]
                assert given["requests"].keys() >= {"cpu", "memory"}, one["metadata"]["name"]
                assert given["limits"].keys() >= {"cpu", "memory"}, one["metadata"]["name"]


def test_a_field_that_argo_does_not_know_is_refused(space: str, tmp_path: Path) -> None:
    """The assumption of the test above."""
    template = BUILDERS["finetune"]().to_dict()
    template["spec"]["templates"][0]["retryStrategie"] = {"limit": 1}
    command = ["apply", "-n", space, "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"]
    assert "retryStrategie" in kubectl(*command, document=template, check=False).stderr


def test_argos_own_lint_finds_nothing() -> None:
    command = shutil.which("argo")
    if not command:
        pytest.skip("there is no argo command")
    files = [str(file) for file in (ROOT / "argo").glob("**/workflows/*.yaml")]
    environment = {key: value for key, value in os.environ.items() if key != "ARGO_SERVER"}
    done = subprocess.run([command, "lint", "--offline", *files], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_on_one_machine_only_policies_lie_outside_the_namespace() -> None:
    documents = built("kind")
    kinds = {document["kind"] for document in documents}
    assert {"WorkflowTemplate", "CronWorkflow", "ServiceAccount", "NetworkPolicy", "ResourceQuota"} <= kinds
    assert kinds & CLUSTER_SCOPED == {"Namespace", *POLICIES}
    assert {one["metadata"]["namespace"] for one in documents if one["kind"] not in CLUSTER_SCOPED} == {"fineline"}


@pytest.mark.parametrize("overlay", OVERLAYS[1:])
def test_in_a_cloud_nothing_lies_outside_the_namespace_but_the_right_of_provision_to_ask_for_nodes(
    overlay: str,
) -> None:
    documents = built(overlay)
    outside = [document for document in documents if document["kind"] in CLUSTER_SCOPED - {"Namespace"}]
    assert {document["kind"] for document in outside} == CLUSTER_ROLES | POLICIES
    outside += [one for one in documents if one["metadata"].get("namespace") == "default"]
    assert all(d["metadata"]["labels"]["fineline.dev/namespace"] == "fineline" for d in outside)
    assert all(d["metadata"]["name"].endswith(".fineline") for d in outside)
    held_by = [d["subjects"] for d in outside if d["kind"] == "ClusterRoleBinding"]
    assert [[one["name"] for one in subjects] for subjects in held_by] == [[PROVISION]]
    changed = {
        resource
        for role in outside
        if role["kind"] == "ClusterRole"
        for rule in role.get("rules", [])
        if not {"get", "list", "watch"}.issuperset(rule["verbs"])
        for resource in rule["resources"]
    }
    assert changed == ({"computeclasses"} if overlay == "gke" else {"nodepools", "nodeclaims"})


@pytest.mark.parametrize(
    ("overlay", "provider"), [("aks", "karpenter"), ("eks", "karpenter"), ("gke", "compute-class")]
)
def test_in_a_cloud_every_step_knows_who_brings_nodes_and_the_reaper_is_there(overlay: str, provider: str) -> None:
    documents = built(overlay)
    assert next(d["data"] for d in documents if d["kind"] == "ConfigMap")["FINELINE_COMPUTE"] == provider
    assert ("CronWorkflow", "reaper") in {(d["kind"], d["metadata"]["name"]) for d in documents}


@pytest.mark.parametrize("overlay", OVERLAYS[1:])
def test_in_a_cloud_mlflow_asks_for_the_password_of_a_secret_that_must_be_there(overlay: str) -> None:
    of_mlflow = [d for d in built(overlay) if (d["kind"], d["metadata"]["name"]) == ("Deployment", "fineline-mlflow")]
    (pod,) = [document["spec"]["template"]["spec"] for document in of_mlflow]
    (server,) = pod["containers"]
    assert "--app-name=basic-auth" in server["args"]
    login = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in server["env"] if "AUTH_ADMIN" in one["name"]}
    assert login == {
        f"MLFLOW_AUTH_ADMIN_{key.upper()}": {"name": "fineline-mlflow", "key": key} for key in ("username", "password")
    }
    assert list(server["readinessProbe"]) == ["exec", "periodSeconds", "timeoutSeconds"]


@pytest.mark.parametrize("overlay", OVERLAYS[1:])
def test_in_a_cloud_every_image_of_ours_is_from_the_registry_and_many_nodes_mount_the_volumes(overlay: str) -> None:
    documents = built(overlay)
    images = [t["script"]["image"] for d in documents for t in d.get("spec", {}).get("templates", []) if "script" in t]
    settings = next(d["data"] for d in documents if d["kind"] == "ConfigMap")
    images.append(settings["FINELINE_SERVE_IMAGE"])
    assert len(images) > 10
    assert all(image.startswith("registry.example.com/fineline-") for image in images)
    claims = [d["spec"] for d in documents if d["kind"] == "PersistentVolumeClaim"]
    assert [claim["accessModes"] for claim in claims] == [["ReadWriteMany"]] * 2
    assert all(claim["storageClassName"] for claim in claims)
    assert "FINELINE_ONE_NODE" not in settings


def test_where_one_node_alone_may_mount_the_volumes_all_pods_that_do_are_kept_on_it() -> None:
    documents = built("kind")
    assert next(d["data"] for d in documents if d["kind"] == "ConfigMap")["FINELINE_ONE_NODE"] == "true"
    specs = [d["spec"] for d in documents if d["kind"] == "WorkflowTemplate"]
    templates = [spec for spec in specs if any(map(mounts_a_claim, spec["templates"]))]
    # A pod that has to be beside one that mounts them, and mounts none itself, does not start where there is no such pod.
    assert not any("affinity" in spec for spec in specs if spec not in templates)
    (wanted,) = templates[0]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    together = wanted["labelSelector"]["matchLabels"]
    assert all(spec["affinity"] == templates[0]["affinity"] for spec in templates)
    for spec in templates:
        for template in spec["templates"]:
            if "script" in template:
                assert together.items() <= template["metadata"]["labels"].items()
    served = deployment(serving(one_node=True))["spec"]["template"]
    assert served["spec"]["affinity"]["podAffinity"] == templates[0]["affinity"]["podAffinity"]
    assert together.items() <= served["metadata"]["labels"].items()
    assert "podAffinity" not in deployment(serving(one_node=False))["spec"]["template"]["spec"]["affinity"]


def mounts_a_claim(template: dict[str, Any]) -> bool:
    volumes: list[dict[str, Any]] = template.get("volumes", [])
    return any("persistentVolumeClaim" in volume for volume in volumes)


def serving(*, one_node: bool) -> VersionSpec:
    upstream = Upstream(port=8000, version=1, run="r", base="b", adapter_sha256="a")
    return VersionSpec(
        name="store",
        digest="0123456789abcdef",
        image="fineline-serve:0.1.0",
        sub_path="merged/x",
        memory_bytes=1 << 30,
        ready_seconds=60,
        rules=version_objects.rules("store", 600, 4 << 20, 0),
        compute_type="float32",
        api_key_secret="fineline-api-key",
        one_node=one_node,
        upstream=upstream,
    )


STEP, ROLLOUT, PROVISION = "fineline-step", "fineline-rollout", "fineline-provision"
ARGO = "argoproj.io"


@pytest.mark.parametrize("account", [STEP, ROLLOUT, PROVISION, "fineline-plan", "fineline-pull", "fineline-executor"])
def test_only_argos_executor_may_report_outputs_and_nobody_reads_a_secret(account: str, namespace: str) -> None:
    executor = account == "fineline-executor"
    assert may(account, namespace, "create", "workflowtaskresults", ARGO) is executor
    assert may(account, namespace, "patch", "workflowtaskresults", ARGO) is executor
    assert not may(account, namespace, "get", "secrets")
    assert not may(account, namespace, "create", "pods")
    assert not may(account, namespace, "delete", "persistentvolumeclaims")
    assert not may(account, namespace, "create", "workflows", ARGO)


@pytest.mark.parametrize(
    ("verb", "resource", "group"),
    [
        ("get", "deployments", "apps"),
        ("create", "deployments", "apps"),
        ("patch", "deployments", "apps"),
        ("delete", "deployments", "apps"),
        ("create", "services", ""),
        ("patch", "services", ""),
        ("delete", "services", ""),
        ("list", "pods", ""),
    ],
)
def test_rollout_alone_may_touch_what_serves(verb: str, resource: str, group: str, namespace: str) -> None:
    assert may(ROLLOUT, namespace, verb, resource, group)
    assert not may(STEP, namespace, verb, resource, group)
    assert not may(PROVISION, namespace, verb, resource, group)


def test_no_account_may_anything_in_another_namespace(namespace: str) -> None:
    for account in (STEP, ROLLOUT, PROVISION):
        assert not may(account, namespace, "patch", "deployments", "apps", within="default")


def test_policies_let_out_what_fetches_and_nothing_else() -> None:
    policies = [d for d in built("kind") if d["kind"] == "NetworkPolicy"]
    pods = {
        template["name"]: template["metadata"]["labels"]
        for name in ("finetune", "receive", "retrain", "cache", "rollback", "recover", "reaper", "prune", "backup")
        for template in BUILDERS[name]().to_dict()["spec"]["templates"]
        if "script" in template
    }
    pods["mlflow"] = {"app.kubernetes.io/part-of": "fineline", "app.kubernetes.io/component": "mlflow"}
    pods["server"] = deployment(serving(one_node=False))["spec"]["template"]["metadata"]["labels"]
    reaching = {name for name, labels in pods.items() if anywhere(rules(policies, labels, "egress"))}
    assert reaching == {"plan", "pull", "check", "pin"}
    assert rules(policies, pods["server"], "egress") == []
    assert all(
        rules(policies, pods[name], "ingress") == [] for name in ("plan", "tune", "release", "receive", "backup")
    )
    inside = {name: [one for rule in rules(policies, pods[name], "egress") for one in of_ours(rule)] for name in pods}
    assert inside["receive"] == []
    assert inside["backup"] == [({"app.kubernetes.io/component": "mlflow"}, [5000])]
    assert inside["register"] == [({"app.kubernetes.io/part-of": "fineline"}, [])]
    to_users, to_steps = rules(policies, pods["server"], "ingress")
    assert to_users["ports"] == [{"protocol": "TCP", "port": 8080}]
    assert to_steps["ports"] == [{"protocol": "TCP", "port": 8081}]
    (allowed,) = to_steps["from"]
    assert {name for name, labels in pods.items() if selects(allowed["podSelector"], labels)} == {*pods} - {
        "server",
        "mlflow",
    }
    (to_mlflow,) = rules(policies, pods["mlflow"], "ingress")
    assert to_mlflow["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/part-of": "fineline"}}}]


def of_ours(rule: dict[str, Any]) -> list[tuple[dict[str, str], list[int]]]:
    """Return the pods of this namespace that a rule leads to, each with the ports; none: all of them."""
    ports = [one["port"] for one in rule.get("ports", [])]
    own = [one["podSelector"] for one in rule["to"] if "podSelector" in one and "namespaceSelector" not in one]
    return [(one["matchLabels"], ports) for one in own]


def test_karpenters_metrics_are_reached_by_plan_alone() -> None:
    policy = next(d["spec"] for d in built("eks") if d["metadata"]["name"] == "fineline-prices")
    steps = BUILDERS["finetune"]().to_dict()["spec"]["templates"]
    labels = {one["name"]: one["metadata"]["labels"] for one in steps if "script" in one}
    assert [name for name, found in labels.items() if selects(policy["podSelector"], found)] == ["plan"]


def rules(policies: list[dict[str, Any]], labels: dict[str, str], direction: str) -> list[dict[str, Any]]:
    """Return the rules that apply to a pod; every pod has a policy for both directions."""
    chosen = [p["spec"] for p in policies if selects(p["spec"]["podSelector"], labels)]
    assert {"Ingress", "Egress"} <= {kind for spec in chosen for kind in spec["policyTypes"]}
    return [rule for spec in chosen for rule in spec.get(direction, [])]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    for wanted in selector.get("matchExpressions", []):
        value = labels.get(wanted["key"])
        operator = wanted["operator"]
        assert operator in ("Exists", "In", "NotIn"), operator
        if (operator == "Exists" and value is None) or (operator == "NotIn" and value in wanted["values"]):
            return False
        if operator == "In" and value not in wanted["values"]:
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def anywhere(found: list[dict[str, Any]]) -> bool:
    """Return whether a rule allows every destination, or all of the internet."""
    blocks = [place.get("ipBlock", {}).get("cidr") for rule in found for place in rule.get("to") or []]
    return any(not rule.get("to") for rule in found) or "0.0.0.0/0" in blocks
