"""A separate namespace on the cluster that KUBECONFIG names, with Fineline's images, manifests and volumes."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cluster.connection import Connection
from pipelines.cluster.transfer.send_data import with_data_in_reach
from pipelines.machine.run_record import Run
from pipelines.workflows import finetune, receive
from pipelines.workflows.parameters import as_text
from recipes.reader import load
from recipes.recipe import Recipe
from steps.common.handover.resolved import Resolved
from steps.common.storage import volumes
from steps.common.weights.store import MANIFEST
from steps.plan.step import PlanInput, resolve
from tests.support.argo_controller import taking_up
from tests.support.images import build_images
from tests.support.installation import bound_to_fineline_user, installed
from tests.support.kubectl import CLUSTER_TOOLS, kubectl
from tests.support.pods import restricted, run_as_pods
from tests.support.small_store import small_store

NAMESPACE = "fineline-tests"
# Not the name of the recipe that ships: Argo's runs register versions under that.
STORE = "podded-store"


SHARED, ROLLOUTS, NODES = "the shared namespace", "rollouts", "nodes"
COUNT_NODES = ("test_gpu_nodes.py", "test_karpenter.py", "test_network.py", "test_wait_for_pods.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what shares a namespace, or the cluster's nodes, in one process; skip all of it where there is no cluster.

    The three largest groups start first, so that the processes end at about the same time.
    """
    here = Path(__file__).parent
    mine = [item for item in items if here in item.path.parents]
    shared = {item.path for item in mine if shares_the_namespace(item)}
    rolling_out = {item.path for item in mine if asks_for(item, "rollouts")}
    groups = {item: group_of(item.path, shared, rolling_out) for item in mine}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
        if not os.environ.get("KUBECONFIG"):
            item.add_marker(pytest.mark.skip(reason="KUBECONFIG names no cluster"))
    places = {SHARED: 0, ROLLOUTS: 1, NODES: 2}
    items.sort(key=lambda item: places.get(groups.get(item, ""), 3))


def asks_for(item: pytest.Item, fixture: str) -> bool:
    """Return whether a test asks for a fixture, itself or through another one."""
    assert isinstance(item, pytest.Function)
    return fixture in item.fixturenames


def shares_the_namespace(item: pytest.Item) -> bool:
    """Return whether a test asks for the fixture `namespace`, and has no parameter of that name instead."""
    assert isinstance(item, pytest.Function)
    own = item.callspec.params if hasattr(item, "callspec") else {}
    return asks_for(item, "namespace") and "namespace" not in own


def group_of(file: Path, shared: set[Path], rolling_out: set[Path]) -> str:
    """Return the group that a file's tests run in."""
    if file in rolling_out:
        return ROLLOUTS
    if file in shared:
        return SHARED
    return NODES if file.name in COUNT_NODES else file.name


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
    """Fineline installed as the README says, with MLflow ready and writable volumes; each process has its own."""
    name = "-".join([NAMESPACE, *filter(None, [os.environ.get("PYTEST_XDIST_WORKER")])])
    with installed(name, tmp_path_factory.mktemp("overlay")):
        yield name


@pytest.fixture
def user(namespace: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody who is bound to fineline-user, and to nothing else."""
    with bound_to_fineline_user(namespace, tmp_path) as environment:
        yield environment


@pytest.fixture
def reader(namespace: str) -> Iterator[str]:
    """A pod that mounts the runs volume."""
    mounts = [{"name": "runs", "mountPath": "/runs"}]
    main = {"name": "main", "image": "fineline-control:0.1.0", "command": ["sleep", "3600"], "volumeMounts": mounts}
    claims = [{"name": "runs", "persistentVolumeClaim": {"claimName": "fineline-runs"}}]
    spec = {"containers": [main], "volumes": claims, "terminationGracePeriodSeconds": 0}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reader", "namespace": namespace}, "spec": spec}
    kubectl("apply", "-f", "-", document=restricted(pod))
    kubectl("wait", "pod/reader", "-n", namespace, "--for=condition=Ready", "--timeout=120s")
    yield "reader"
    kubectl("delete", "pod", "reader", "-n", namespace)


@pytest.fixture(scope="session")
def folder_of_store_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs volume that `store_run` is recorded in."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def store_recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """The recipe that ships, made smaller."""
    return load("pet-store", {"name": STORE, **small_store(tmp_path_factory.mktemp("store"))})


@pytest.fixture(scope="session")
def store_run(namespace: str, store_recipe: Recipe, folder_of_store_run: Path) -> Run:
    """The run of `store_recipe`, each step in its pod: its version 1 is the champion, and is served."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(volumes.RUNS_SETTING, str(folder_of_store_run))
        with taking_up(namespace, receive.build()):
            text = as_text(with_data_in_reach(Connection(namespace, ""), store_recipe))
        return run_as_pods(namespace, finetune.build(), STORE, {"recipe": text})


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
