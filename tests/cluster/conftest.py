"""A namespace of its own on the cluster that KUBECONFIG names, with Fineline's images, manifests and volumes."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from recipes.reader import load
from steps.common.handover.resolved import Resolved
from steps.common.storage import volumes
from steps.common.weights.store import MANIFEST
from steps.plan.step import PlanInput, resolve
from tests.support.commands import wait_for
from tests.support.images import build_images
from tests.support.kubectl import CLUSTER_TOOLS, ROOT, kubectl

NAMESPACE = "fineline-tests"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a cluster, and is done by one process: there is one namespace for all of it."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("cluster"))
            if not os.environ.get("KUBECONFIG"):
                item.add_marker(pytest.mark.skip(reason="KUBECONFIG names no cluster"))


@pytest.fixture(scope="session")
def images() -> None:
    """The three images of this code on the node: built where the tools for that are there, else loaded beforehand."""
    build = CLUSTER_TOOLS / "image"
    if not build.exists() or os.environ.get("FINELINE_TEST_IMAGES") == "loaded":
        return
    build_images()


@pytest.fixture(scope="session")
def crds() -> None:
    """Argo's definitions, with which the API server checks every template field by field."""
    found = CLUSTER_TOOLS / "argo-crds"
    if found.is_dir():
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(found))
    elif kubectl("get", "crd", "workflowtemplates.argoproj.io", check=False).returncode:
        pytest.skip("the cluster has no Argo Workflows")


@pytest.fixture(scope="session")
def namespace(images: None, crds: None) -> Iterator[str]:
    """Fineline installed as the README says, its MLflow ready, its volumes writable."""
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
    kubectl("create", "namespace", NAMESPACE)
    kubectl("apply", "-n", NAMESPACE, "--server-side", "--validate=strict", "-k", str(ROOT / "argo/overlays/kind"))
    bundle = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    if Path(bundle).is_file():
        # What this machine needs to reach the package index, a step's pod needs too.
        command = ["create", "configmap", "fineline-certificates", "-n", NAMESPACE, f"--from-file=ca.crt={bundle}"]
        kubectl(*command)
    _open_volumes()
    wait = ["wait", "-n", NAMESPACE, "--for=condition=Available", "deployment/fineline-mlflow", "--timeout=300s"]
    kubectl(*wait)
    yield NAMESPACE
    if not os.environ.get("FINELINE_KEEP_NAMESPACE"):
        kubectl("delete", "namespace", NAMESPACE, "--timeout=180s")
        # Nothing of it is left anywhere: its volumes' storage is given back too.
        wait_for(
            lambda: NAMESPACE not in kubectl("get", "pv", "-o", "jsonpath={.items[*].spec.claimRef.namespace}").stdout
        )


def _open_volumes() -> None:
    """Let the steps' user write: Kubernetes' simplest volumes, folders of the node, know no fsGroup and belong to root."""
    claims = ("fineline-weights", "fineline-runs", "fineline-mlflow")
    volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "open-volumes", "namespace": NAMESPACE},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "main",
                    "image": "fineline-control:0.1.0",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["chmod", "0777", *(f"/{claim}" for claim in claims)],
                    "volumeMounts": [{"name": claim, "mountPath": f"/{claim}"} for claim in claims],
                    "securityContext": {"runAsUser": 0},
                }
            ],
            "volumes": volumes,
        },
    }
    kubectl("apply", "-f", "-", document=pod)
    phase = ["get", "pod", "open-volumes", "-n", NAMESPACE, "-o", "jsonpath={.status.phase}"]
    wait_for(lambda: kubectl(*phase).stdout == "Succeeded", 120)
    kubectl("delete", "pod", "open-volumes", "-n", NAMESPACE)


@pytest.fixture(scope="session", autouse=True)
def _kubectl_is_there() -> None:
    if os.environ.get("KUBECONFIG") and not shutil.which("kubectl") and not (CLUSTER_TOOLS / "up").exists():
        pytest.skip("there is no kubectl")


@pytest.fixture
def planned(tmp_path: Path, tiny_model: Path, chats: Path) -> Resolved:
    """A run of the two-layer model whose weights are there."""
    changes = {"name": "tiny", "model": tiny_model.as_uri(), "data.train": str(chats), "data.max_tokens": "64"}
    recipe = load("pet-store", {**changes, "serve.enabled": "false"})
    resolved = resolve(PlanInput(recipe=json.dumps(recipe.model_dump(mode="json"))))
    folder = volumes.published_model(resolved.model.digest)
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text('{"files": []}')
    return resolved
