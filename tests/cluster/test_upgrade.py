"""An installation of 0.1.0 is upgraded while a model is served, a cron is pending and a run is at work."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.golden_objects import GOLDEN_OBJECTS, GOLDEN_OVERLAY
from tests.cluster.test_rollout import NAME, Rollouts, _settings, address, rollouts
from tests.support.commands import wait_for
from tests.support.kubectl import ROOT, get, kubectl
from tests.support.load import load

__all__ = ["_settings", "rollouts"]  # fixtures

SPACE = "fineline-upgrade-tests"
STAYS = (
    "deployment/tiny-v1",
    "service/tiny",
    "service/tiny-v1",
    "cronworkflow/shop",
    "workflow/shop-1",
    "pvc/fineline-runs",
)


def of_0_1_0(name: str = "tiny", **replaced: str) -> list[dict[str, Any]]:
    """What 0.1.0's rollout creates, for a model of that name."""
    text = GOLDEN_OBJECTS.read_text().replace("tiny", name)
    for before, after in replaced.items():
        text = text.replace(before, after)
    return list(yaml.safe_load_all(text))


def found(name: str) -> dict[str, Any]:
    kind, _, own = name.partition("/")
    return get(kind, own, SPACE)


@pytest.fixture(scope="module")
def upgraded(crds: None) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What is there before and after the upgrade, by name."""
    kubectl("delete", "namespace", SPACE, "--ignore-not-found")
    kubectl("create", "namespace", SPACE)
    kubectl("apply", "-n", SPACE, "--server-side", "-f", str(GOLDEN_OVERLAY))
    version, *services = of_0_1_0()
    version["spec"]["replicas"] = 0  # whether it answers is another test's
    cron = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "CronWorkflow",
        "metadata": {"name": "shop", "labels": {"app.kubernetes.io/part-of": "fineline"}},
        "spec": {
            "schedules": ["0 3 * * *"],
            "concurrencyPolicy": "Forbid",
            "suspend": False,
            "workflowSpec": {
                "workflowTemplateRef": {"name": "retrain"},
                "arguments": {
                    "parameters": [{"name": "recipe", "value": '{"name": "shop", "data": {"train": "/runs/a"}}'}]
                },
            },
        },
    }
    run = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": "shop-1", "labels": {"app.kubernetes.io/part-of": "fineline"}},
        "spec": {"workflowTemplateRef": {"name": "finetune"}},
        "status": {"phase": "Running"},
    }
    for document in (version, *services, cron, run):
        kubectl("apply", "-n", SPACE, "-f", "-", document=document)
    before = {name: found(name) for name in STAYS}
    kubectl("apply", "-n", SPACE, "--server-side", "--validate=strict", "-k", str(ROOT / "argo" / "overlays" / "kind"))
    yield before, {name: found(name) for name in STAYS}
    kubectl("delete", "namespace", SPACE, "--wait=false")


@pytest.mark.parametrize("name", STAYS)
def test_what_is_there_stays_as_it_is(upgraded: Any, name: str) -> None:
    before, after = (one[name] for one in upgraded)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"] == before["spec"]


def test_a_pending_cron_and_a_run_name_templates_with_their_parameters_that_are_still_there(upgraded: Any) -> None:
    _, after = upgraded
    for spec in (after["cronworkflow/shop"]["spec"]["workflowSpec"], after["workflow/shop-1"]["spec"]):
        template = get("workflowtemplate", spec["workflowTemplateRef"]["name"], SPACE)
        known = {one["name"] for one in template["spec"]["arguments"]["parameters"]}
        assert {one["name"] for one in spec.get("arguments", {}).get("parameters", [])} <= known


def test_each_account_that_a_pod_of_a_run_at_work_names_is_still_there(upgraded: Any) -> None:
    before = [one for one in yaml.safe_load_all(GOLDEN_OVERLAY.read_text()) if one["kind"] == "ServiceAccount"]
    for account in before:
        assert get("serviceaccount", account["metadata"]["name"], SPACE)


def test_each_template_of_0_1_0_is_still_there_with_its_parameters(upgraded: Any) -> None:
    """A run that waits for its start, in Argo or in a person's script, names a template and its parameters."""
    for one in yaml.safe_load_all(GOLDEN_OVERLAY.read_text()):
        if one["kind"] == "WorkflowTemplate":
            now = get("workflowtemplate", one["metadata"]["name"], SPACE)
            given = {parameter["name"] for parameter in one["spec"].get("arguments", {}).get("parameters", [])}
            assert given <= {parameter["name"] for parameter in now["spec"]["arguments"]["parameters"]}


def test_a_version_that_0_1_0_serves_is_found_and_replaced_without_a_failed_request(rollouts: Rollouts) -> None:
    model = rollouts.model(1, seed=1)
    rollouts.send(model)
    space = rollouts.namespace
    for document in of_0_1_0(NAME, **{"merged/7596375a6c9011bb": "merged/version-1"}):
        kubectl("apply", "-n", space, "-f", "-", document=document)
    kubectl("rollout", "status", f"deployment/{NAME}-v1", "-n", space, "--timeout=240s")
    second = rollouts.model(2, seed=2)
    rollouts.send(second)
    asked = rollouts.asked(second)
    with load(address(space, NAME), NAME, max_tokens=4) as met:
        rollouts.roll_out(2, second, asked)
    assert rollouts.told.old_version == 1
    assert met.failures == []
    assert met.answers.keys() == {"1", "2"}
    stopped = ["get", "deployments", "-n", space, "-l", f"fineline.dev/model={NAME}", "-o", "json"]
    replicas = {one["spec"]["replicas"] for one in json.loads(kubectl(*stopped).stdout)["items"]}
    assert replicas == {0, 1}
    wait_for(lambda: kubectl("get", "service", NAME, "-n", space).returncode == 0, 10)
