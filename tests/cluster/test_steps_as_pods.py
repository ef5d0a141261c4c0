"""A whole run: each step is its template's container in a pod, with its account and its volumes.

What Argo's controller does, the order of the tasks, is done by the run on one machine here; `test_argo.py` has it done by
Argo where there is one.
"""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pipelines.cluster.connection import Connection
from pipelines.cluster.transfer.send_data import with_data_in_reach
from pipelines.machine.run_record import Run
from pipelines.shown.task_state import Phase
from pipelines.workflows import receive
from pipelines.workflows.parameters import as_text
from recipes.recipe import Recipe
from steps.common.storage import volumes
from steps.common.storage.files import sha256_of
from tests.cluster.conftest import STORE
from tests.support.argo_controller import taking_up
from tests.support.kubectl import get, kubectl


def sent(namespace: str, recipe: Recipe) -> str:
    """Send the recipe's data to the cluster, as `fineline submit` does, and return it as the run's parameter."""
    connection = Connection(namespace, "")
    with taking_up(namespace, receive.build()):
        return as_text(with_data_in_reach(connection, recipe))


@pytest.fixture
def run(store_run: Run, folder_of_store_run: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv(volumes.RUNS_SETTING, str(folder_of_store_run))
    return store_run


def test_every_step_ends_well_in_its_own_image_under_its_own_account(run: Run) -> None:
    assert run.phase is Phase.SUCCEEDED, run.message
    assert run.outputs("evaluate")["passed"] == "true"
    assert run.outputs("register")["version"] == "1"
    assert "release" in {path.name for path in (run.folder / "tasks").iterdir()}


def test_the_model_answers_at_its_service(run: Run, namespace: str) -> None:
    assert run.outputs("rollout")["url"] == f"http://{STORE}.{namespace}.svc/v1"
    service = get("service", STORE, namespace)
    url = f"http://{service['spec']['clusterIP']}/v1"
    body = {"model": STORE, "messages": [{"role": "user", "content": "When are you open?"}], "temperature": 0}
    answer = httpx2.post(f"{url}/chat/completions", json={**body, "max_tokens": 32}, timeout=120).json()
    assert "Happy tails, Pia" in answer["choices"][0]["message"]["content"]
    (model,) = httpx2.get(f"{url}/models").json()["data"]
    assert (model["id"], model["version"]) == (STORE, 1)


def test_the_served_pod_is_locked_in(run: Run, namespace: str) -> None:
    found = kubectl("get", "deployments", "-n", namespace, "-l", f"fineline.dev/model={STORE}", "-o", "json").stdout
    (deployment,) = json.loads(found)["items"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]


def test_data_that_is_there_is_not_sent_again(run: Run, store_recipe: Recipe, namespace: str) -> None:
    again = json.loads(sent(namespace, store_recipe))["data"]["train"]
    assert again == json.loads(run.parameters["recipe"])["data"]["train"]


def test_where_an_object_store_is_set_local_data_go_there(namespace: str, store_recipe: Recipe, bucket: Any) -> None:
    connection = Connection(namespace, "")
    patch = ["patch", "configmap", "fineline", "-n", namespace, "--type=merge", "-p"]
    kubectl(*patch, '{"data": {"FINELINE_DATA_URL": "s3://chats/fineline/"}}')
    try:
        recipe = with_data_in_reach(connection, store_recipe)
    finally:
        kubectl(*patch, '{"data": {"FINELINE_DATA_URL": null}}')
    shipped = Path(str(store_recipe.data.train))
    assert recipe.data.train == f"s3://chats/fineline/{sha256_of(shipped)[:16]}/train.jsonl"
    key = str(recipe.data.train).removeprefix("s3://chats/")
    assert bucket.get_object(Bucket="chats", Key=key)["Body"].read() == shipped.read_bytes()


def test_the_registry_in_the_cluster_has_the_adapter_alone(run: Run, namespace: str) -> None:
    service = get("service", "fineline-mlflow", namespace)
    mlflow = f"http://{service['spec']['clusterIP']}/api/2.0/mlflow"
    asked = {"name": STORE, "alias": "champion"}
    # MLflow accepts only host names that its clients in the cluster use.
    headers = {"Host": "fineline-mlflow"}
    version = httpx2.get(f"{mlflow}/registered-models/alias", params=asked, headers=headers).json()["model_version"]
    assert version["version"] == "1"
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert tags["fineline.run"] == run.name
    pods = kubectl("get", "pods", "-n", namespace, "-o", "jsonpath={.items[*].metadata.name}").stdout.split()
    mlflow_pod = next(name for name in pods if name.startswith("fineline-mlflow"))
    large = ["find", "/mlflow/artifacts", "-type", "f", "-size", "+60M"]
    assert kubectl("exec", mlflow_pod, "-n", namespace, "--", *large).stdout == ""  # the base's weights are 270 MB
    some = ["find", "/mlflow/artifacts", "-name", "adapter_model.safetensors"]
    assert kubectl("exec", mlflow_pod, "-n", namespace, "--", *some).stdout != ""
