"""An installation of 0.1.0 is upgraded while a model is served, a cron is pending and a run is at work."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.golden_objects import GOLDEN_OVERLAY, of_0_1_0
from tests.support.kubectl import get, kubectl
from tests.support.overlay import overlay, uninstall

SPACE = "fineline-upgrade-tests"
STAYS = (
    "deployment/tiny-v1",
    "service/tiny",
    "service/tiny-v1",
    "cronworkflow/shop",
    "workflow/shop-1",
    "pvc/fineline-runs",
)


def found(name: str) -> dict[str, Any]:
    kind, _, own = name.partition("/")
    return get(kind, own, SPACE)


@pytest.fixture(scope="module")
def upgraded(crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What is there before and after the upgrade, by name."""
    kubectl("delete", "namespace", SPACE, "--ignore-not-found")
    kubectl("create", "namespace", SPACE)
    kubectl("apply", "-n", SPACE, "--server-side", "-f", str(GOLDEN_OVERLAY))
    version, *services = of_0_1_0("tiny")
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
    # Without --force-conflicts: an upgrade needs no more than the line that installs.
    place = overlay(tmp_path_factory.mktemp("overlay"), SPACE)
    kubectl("apply", "--server-side", "--validate=strict", "-k", str(place))
    yield before, {name: found(name) for name in STAYS}
    uninstall(place)


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
