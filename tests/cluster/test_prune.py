"""`prune` in a namespace, with its account's rights: what Deployments and Workflows name stays."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steps.common.registry import tracking
from steps.common.storage import volumes
from tests.cluster.golden_objects import of_0_1_0
from tests.steps.prune.test_prune import built
from tests.support.kubectl import ROOT, kubectl, may
from tests.support.steps import Account

DEFAULTS = {"keep": "", "days": "", "dry_run": "false"}
SPACE, ACCOUNT, PRUNE = "fineline-prune-tests", "fineline-prune", "steps.prune.step:prune"


@pytest.fixture(scope="module")
def space(crds: None) -> Iterator[str]:
    kubectl("delete", "namespace", SPACE, "--ignore-not-found")
    kubectl("create", "namespace", SPACE)
    kubectl("apply", "-n", SPACE, "--server-side", "-f", str(ROOT / "argo" / "base" / "accounts.yaml"))
    yield SPACE
    kubectl("delete", "namespace", SPACE, "--wait=false")


@pytest.fixture
def account(space: str, tmp_path: Path) -> Account:
    settings = {"FINELINE_SERVE_IMAGE": "fineline-serve:0.1.0", volumes.RUNS_SETTING: os.environ[volumes.RUNS_SETTING]}
    tracking.client(tracking.default_uri())
    return Account(tmp_path, space, ACCOUNT, settings)


def workflow(name: str, phase: str, path: Path) -> dict[str, Any]:
    outputs = {"parameters": [{"name": "adapter_folder", "value": f"/runs/{path.relative_to(volumes.runs())}/adapter"}]}
    node = {"id": name, "name": name, "displayName": "tune", "type": "Pod", "phase": "Succeeded", "outputs": outputs}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": name, "namespace": SPACE},
        "spec": {"workflowTemplateRef": {"name": "finetune"}},
        "status": {"phase": phase, "nodes": {name: node}},
    }


def test_what_deployments_and_workflows_name_stays(account: Account) -> None:
    deployment, *_ = of_0_1_0("tiny")
    deployment["spec"]["replicas"] = 0  # as a rollout leaves the version before: nothing runs, and a rollback needs it
    kubectl("apply", "-n", SPACE, "-f", "-", document=deployment)
    served = built(volumes.merged_model("7596375a6c9011bb"))
    running, failed, succeeded = (built(volumes.tuning(letter * 16)) for letter in "abc")
    later = built(volumes.prepared_rows("d" * 16))
    gone = built(volumes.merged_model("e" * 16))
    for name, phase, folder in (
        ("one", "Running", running),
        ("two", "Failed", failed),
        ("three", "Succeeded", succeeded),
    ):
        kubectl("apply", "-f", "-", document=workflow(name, phase, folder))
    told = account.run(PRUNE, {**DEFAULTS, "dry_run": "true"})
    assert told.code == 0, told.log
    assert gone.exists()
    done = account.run(PRUNE, DEFAULTS)
    assert done.code == 0, done.log
    assert done.outputs["freed"] == told.outputs["freed"].replace("would free", "freed")
    there = {folder for folder in (served, running, failed, succeeded, later, gone) if folder.exists()}
    assert there == {served, running, failed}
    kubectl("delete", "deployment", deployment["metadata"]["name"], "-n", SPACE)
    kubectl("delete", "workflows", "--all", "-n", SPACE)
    again = account.run(PRUNE, DEFAULTS)
    assert again.code == 0, again.log
    assert not any(folder.exists() for folder in (served, running, failed))


def test_where_the_cluster_does_not_tell_nothing_is_deleted(space: str, tmp_path: Path) -> None:
    settings = {"FINELINE_SERVE_IMAGE": "fineline-serve:0.1.0", volumes.RUNS_SETTING: os.environ[volumes.RUNS_SETTING]}
    folder = built(volumes.merged_model("a" * 16))
    refused = Account(tmp_path, space, "fineline-step", settings).run(PRUNE, DEFAULTS)
    assert refused.code == 2, refused.log
    assert "\n" not in refused.error
    assert folder.exists()


def test_its_account_may_list_and_nothing_else(space: str) -> None:
    assert may(ACCOUNT, space, "list", "deployments", "apps")
    assert may(ACCOUNT, space, "list", "workflows", "argoproj.io")
    for verb in ("create", "patch", "delete"):
        assert not may(ACCOUNT, space, verb, "deployments", "apps")
        assert not may(ACCOUNT, space, verb, "workflows", "argoproj.io")
    assert not may(ACCOUNT, space, "get", "secrets")
    assert not may(ACCOUNT, space, "create", "pods")
