"""Of runs that would make the same version, one at a time gets a node."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steps.common.handover.resolved import Resolved
from steps.common.runtime import cluster_settings
from tests.support.kubectl import ROOT, get, kubectl
from tests.support.steps import Account

SPACE = "fineline-equal-runs"
WAIT = """
import sys
import steps.provision.equal_run as equal_run
from steps.common.handover.resolved import Resolved
equal_run.POLL_SECONDS = 0.5
equal_run.wait_for_equal_run(Resolved.model_validate_json(open(sys.argv[1]).read()), sys.argv[2])
"""


@pytest.fixture(scope="module")
def space(crds: None) -> Iterator[str]:
    kubectl("delete", "namespace", SPACE, "--ignore-not-found")
    kubectl("create", "namespace", SPACE)
    for part in ("base/accounts", "components/nodes/roles"):
        kubectl("apply", "-n", SPACE, "-f", str(ROOT / "argo" / f"{part}.yaml"))
    yield SPACE
    kubectl("delete", "namespace", SPACE, "--timeout=120s")


@pytest.fixture
def begin(space: str, planned: Resolved, tmp_path: Path) -> Callable[[str], "subprocess.Popen[str]"]:
    """Returns a function that waits as `provision` of a run does, with its account."""
    account, file = Account(tmp_path, space, "fineline-provision", {}), tmp_path / "resolved.json"
    file.write_text(planned.model_dump_json())
    settings = {"KUBECONFIG": str(account.kubeconfig), cluster_settings.SERVE_IMAGE_SETTING: "fineline-serve:0.1.0"}

    def start(run: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", WAIT, str(file), run]
        return subprocess.Popen(command, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True, cwd=ROOT)

    return start


def write_workflow(name: str, **status: Any) -> None:
    """Write a run's Workflow, which no controller takes up."""
    labels = {"workflows.argoproj.io/controller-instanceid": "nobody"}
    body = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": name, "namespace": SPACE, "labels": labels},
        "spec": {"entrypoint": "main", "templates": [{"name": "main", "suspend": {}}]},
        "status": {"phase": "Running", **status},
    }
    kubectl("apply", "-f", "-", document=body)


def test_a_second_equal_run_waits_until_the_first_has_been_evaluated(
    begin: Callable[[str], "subprocess.Popen[str]"],
) -> None:
    write_workflow("first")
    assert begin("first").wait(120) == 0
    write_workflow("second")
    second = begin("second")
    time.sleep(15)
    assert second.poll() is None
    assert begin("first").wait(120) == 0  # another attempt of the same run
    node = {"id": "first-1", "name": "first.evaluate", "displayName": "evaluate", "type": "Retry", "phase": "Succeeded"}
    write_workflow("first", nodes={"first-1": node})
    _, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert "waiting for run first, which makes the same version" in err
    write_workflow("second", phase="Failed", finishedAt="2026-01-01T00:00:00Z")
    write_workflow("third")
    assert begin("third").wait(120) == 0
    (name,) = kubectl("get", "leases", "-n", SPACE, "-o", "jsonpath={.items[*].metadata.name}").stdout.split()
    lease = get("lease", name, SPACE)
    assert lease["spec"]["holderIdentity"] == "third"
    assert [owner["name"] for owner in lease["metadata"]["ownerReferences"]] == ["third"]
