"""A separate namespace on the cluster that KUBECONFIG names, with Fineline's images, manifests and volumes."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cluster.doctor.admission import ENFORCE, RESTRICTED
from recipes.reader import load
from steps.common.handover.resolved import Resolved
from steps.common.storage import volumes
from steps.common.weights.store import MANIFEST
from steps.plan.step import PlanInput, resolve
from tests.support import argo_controller
from tests.support.api_server_policy import open_the_api_server
from tests.support.commands import wait_for
from tests.support.images import build_images
from tests.support.kubectl import CLUSTER_TOOLS, kubectl
from tests.support.overlay import install, uninstall

NAMESPACE = "fineline-tests"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the cluster tests in one process, because they share a namespace; skip them where there is no cluster."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("cluster"))
            if not os.environ.get("KUBECONFIG"):
                item.add_marker(pytest.mark.skip(reason="KUBECONFIG names no cluster"))


@pytest.fixture(scope="session")
def images() -> None:
    """Fineline's images on the node: built here if the tools exist, otherwise loaded beforehand."""
    build = CLUSTER_TOOLS / "image"
    if not build.exists() or os.environ.get("FINELINE_TEST_IMAGES") == "loaded":
        return
    build_images()


@pytest.fixture(scope="session")
def crds() -> None:
    """Argo's CRDs, against which the API server checks every field of a template."""
    found = CLUSTER_TOOLS / "argo-crds"
    if found.is_dir():
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(found))
    elif kubectl("get", "crd", "workflowtemplates.argoproj.io", check=False).returncode:
        pytest.skip("the cluster has no Argo Workflows")


@pytest.fixture(scope="session")
def namespace(images: None, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Fineline installed as the README says, with MLflow ready and writable volumes."""
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
    place = install(tmp_path_factory.mktemp("overlay"), NAMESPACE)
    argo_controller.admit(NAMESPACE)
    open_the_api_server(NAMESPACE)
    bundle = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    if Path(bundle).is_file():
        # A step's pod needs the same certificates as this machine to reach the package index.
        command = ["create", "configmap", "fineline-certificates", "-n", NAMESPACE, f"--from-file=ca.crt={bundle}"]
        kubectl(*command)
    _open_volumes()
    wait = ["wait", "-n", NAMESPACE, "--for=condition=Available", "deployment/fineline-mlflow", "--timeout=300s"]
    kubectl(*wait)
    yield NAMESPACE
    if not os.environ.get("FINELINE_KEEP_NAMESPACE"):
        uninstall(place)
        # Deleting the namespace also releases the storage of its volumes.
        wait_for(
            lambda: NAMESPACE not in kubectl("get", "pv", "-o", "jsonpath={.items[*].spec.claimRef.namespace}").stdout
        )


def _open_volumes() -> None:
    """Make the volumes writable for the steps' user: hostPath volumes belong to root and ignore fsGroup."""
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
    kubectl("label", "namespace", NAMESPACE, f"{ENFORCE}=privileged", "--overwrite")
    kubectl("apply", "-f", "-", document=pod)
    kubectl("label", "namespace", NAMESPACE, f"{ENFORCE}={RESTRICTED}", "--overwrite")
    phase = ["get", "pod", "open-volumes", "-n", NAMESPACE, "-o", "jsonpath={.status.phase}"]
    wait_for(lambda: kubectl(*phase).stdout == "Succeeded", 120)
    kubectl("delete", "pod", "open-volumes", "-n", NAMESPACE)


@pytest.fixture(scope="session", autouse=True)
def _kubectl_is_there() -> None:
    if os.environ.get("KUBECONFIG") and not shutil.which("kubectl") and not (CLUSTER_TOOLS / "up").exists():
        pytest.skip("there is no kubectl")


@pytest.fixture
def planned(tmp_path: Path, tiny_model: Path, chats: Path) -> Resolved:
    """A planned run of the two-layer model, whose weights are already on the volume."""
    changes = {"name": "tiny", "model": tiny_model.as_uri(), "data.train": str(chats), "data.max_tokens": "64"}
    recipe = load("pet-store", {**changes, "serve.enabled": "false"})
    resolved = resolve(PlanInput(recipe=json.dumps(recipe.model_dump(mode="json"))))
    folder = volumes.published_model(resolved.model.digest)
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text('{"files": []}')
    return resolved
