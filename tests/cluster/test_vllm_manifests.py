"""The objects of a rollout with vLLM, checked field by field by a real API server, and the components that belong to it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from steps.rollout.pods import version_objects
from steps.rollout.pods.object_names import SERVER_LABEL
from steps.rollout.pods.version_objects import deployment as version_deployment
from steps.rollout.vllm.autoscale import autoscaler
from steps.rollout.vllm.base_objects import deployment, disruption_budget, service
from tests.cluster.test_manifests import anywhere, rules
from tests.steps.rollout.vllm.test_vllm_pods import base_server, version_at
from tests.support.kubectl import ROOT, kubectl

SPACE = "fineline-vllm-manifests"
UID = "00000000-0000-4000-8000-000000000000"
COMPONENTS = ("vllm", "autoscale-hpa", "autoscale-keda")


@pytest.fixture(scope="module")
def space(crds: None) -> Iterator[str]:
    kubectl("create", "namespace", SPACE)
    yield SPACE
    kubectl("delete", "namespace", SPACE, "--wait=false")


def accepted(document: Any, space: str) -> subprocess.CompletedProcess[str]:
    command = ["apply", "-n", space, "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"]
    return kubectl(*command, document=document, check=False)


@pytest.mark.parametrize("one_node", [True, False])
def test_the_api_server_takes_every_object_of_a_base_server(one_node: bool, space: str) -> None:
    server = base_server(one_node=one_node)
    made = [deployment(server), service(server), disruption_budget(server, UID)]
    version = version_at(server)
    made += [autoscaler("hpa", server, UID, 8, ""), version_deployment(version)]
    made += [version_objects.disruption_budget(version, UID), version_objects.service("store", "store", version.served)]
    for document in made:
        done = accepted(document, space)
        assert done.returncode == 0, done.stderr


def test_a_field_that_kubernetes_does_not_know_is_refused(space: str) -> None:
    """The assumption of the test above."""
    document = deployment(base_server())
    document["spec"]["template"]["spec"]["containers"][0]["startupProbe"]["failureTreshold"] = 1
    assert "failureTreshold" in accepted(document, space).stderr


@pytest.fixture(scope="module", params=COMPONENTS)
def overlay(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The overlay for one node, with one more component."""
    folder = ROOT / "argo" / f".test-{request.param}"  # kustomize reads no path above the overlay's own root
    folder.mkdir()
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": SPACE,
        "resources": ["../overlays/kind"],
        "transformers": ["../per-namespace"],
        "components": sorted({"../components/vllm", f"../components/{request.param}"}),
    }
    try:
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
        yield request.param, folder
    finally:
        (folder / "kustomization.yaml").unlink()
        folder.rmdir()


def test_the_api_server_takes_every_component(overlay: tuple[str, Path], space: str) -> None:
    component, folder = overlay
    kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-k", str(folder))
    documents = [one for one in yaml.safe_load_all(kubectl("kustomize", str(folder)).stdout) if one]
    settings = next(one["data"] for one in documents if one["kind"] == "ConfigMap")
    assert settings["FINELINE_VLLM_IMAGE"].startswith("vllm/vllm-openai:v")
    assert settings.get("FINELINE_AUTOSCALE", "") == component.removeprefix("autoscale-").replace("vllm", "")
    role = next(one for one in documents if one["kind"] == "Role" and one["metadata"]["name"] == "fineline-rollout")
    scales = {resource for rule in role["rules"] for resource in rule["resources"] if "get" in rule["verbs"]}
    kind = {"vllm": "", "autoscale-hpa": "horizontalpodautoscalers", "autoscale-keda": "scaledobjects"}[component]
    assert not kind or kind in scales


def test_a_base_is_reached_by_gateways_and_the_rollout_alone_and_itself_reaches_nothing() -> None:
    documents = yaml.safe_load_all(kubectl("kustomize", str(ROOT / "argo/overlays/kind")).stdout)
    policies = [one for one in documents if one and one["kind"] == "NetworkPolicy"]
    server = base_server()
    base = deployment(server)["spec"]["template"]["metadata"]["labels"]
    gateway = version_deployment(version_at(server))["spec"]["template"]["metadata"]["labels"]
    assert rules(policies, base, "egress") == []
    (let_in,) = rules(policies, base, "ingress")
    assert let_in["ports"] == [{"protocol": "TCP", "port": 8000}]
    assert [list(one) for one in let_in["from"]] == [["podSelector"]] * 2  # pods of this namespace, and no other
    to_base, to_names = rules(policies, gateway, "egress")
    assert to_base["ports"] == [{"protocol": "TCP", "port": 8000}]
    # OpenShift's DNS pods listen at 5353.
    assert {(one["protocol"], one["port"]) for one in to_names["ports"]} == {
        (protocol, port) for protocol in ("UDP", "TCP") for port in (53, 5353)
    }
    assert not anywhere([to_base, to_names])
    assert SERVER_LABEL not in gateway
