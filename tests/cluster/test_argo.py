"""Runs through Argo's own controller, as users submit them: with the command, plain Hera, the argo command, a cron."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from pipelines.cluster.argo_nodes import ended, outputs
from pipelines.cluster.argo_server import address
from steps.common.kubernetes.step_failure import task_of
from tests.support.argo_controller import takes_up_runs
from tests.support.commands import begin, fineline, wait_for
from tests.support.kubectl import ROOT, get, kubectl
from tests.support.load import load
from tests.support.small_store import small_store

RUN_SECONDS = 1800
LONG = ("tune", "evaluate")


@pytest.fixture(scope="module")
def argo(namespace: str) -> str:
    """The namespace, with a controller that picks up what is submitted."""
    if not takes_up_runs(namespace):
        pytest.skip("no Argo controller takes up the cluster's workflows")
    return namespace


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a recipe like the pet store's, smaller, with one word changed in its training rows: something new to learn."""
    folder = tmp_path_factory.mktemp("recipes")
    ships = ROOT / "recipes" / "pet_store"

    def recipe(word: str, **parts: Any) -> Path:
        place = folder / word
        place.mkdir(exist_ok=True)
        train = Path(small_store(place)["data.train"])
        before = train.read_text()
        train.write_text(before.replace("Tuesday", word))
        assert train.read_text() != before
        shutil.copy(ships / "heldout.jsonl", place)
        wanted = yaml.safe_load((ships / "recipe.yaml").read_text()) | {"name": "store"} | parts
        wanted["evaluate"] |= {"general": False, "sample_rows": 1, "tasks": []}
        # Two models may answer differently, and at another speed: these runs test the workflow, not the answers.
        wanted["gate"] = {"better_than_base": 0.1, "worse_than_champion": 9.0, "keep_expected": False}
        wanted["serve"] = {"watch_latency_factor": 1000, **wanted.get("serve", {})}
        (place / "recipe.yaml").write_text(yaml.safe_dump(wanted))
        return place / "recipe.yaml"

    return recipe


def submitted(namespace: str, recipe: Path, *options: str) -> dict[str, Any]:
    done = fineline("submit", str(recipe), "-n", namespace, "--watch", "--json", *options)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def first(argo: str, rows: Callable[[str], Path]) -> dict[str, Any]:
    return submitted(argo, rows("Wednesday"))


def test_a_submitted_run_ends_with_a_served_model(first: dict[str, Any], argo: str) -> None:
    assert (first["phase"], first["version"]) == ("Succeeded", "1")
    assert first["url"] == f"http://store.{argo}.svc/v1"
    assert ask(argo, "store").strip()


def ask(namespace: str, model: str) -> str:
    address = get("service", model, namespace)["spec"]["clusterIP"]
    body = {"messages": [{"role": "user", "content": "When are you open?"}], "temperature": 0, "max_tokens": 24}
    body["model"] = model
    answer = httpx2.post(f"http://{address}/v1/chat/completions", json=body, timeout=120)
    return str(answer.raise_for_status().json()["choices"][0]["message"]["content"])


def test_what_a_person_wants_to_see_stands_on_the_nodes(first: dict[str, Any], argo: str) -> None:
    workflow = get("workflow", first["run"], argo)
    assert "steps on" in outputs(workflow, "plan")["quote"]
    assert outputs(workflow, "evaluate")["verdict"].startswith("passed")
    assert outputs(workflow, "register")["version"] == "1"
    assert outputs(workflow, "rollout")["url"] == first["url"]
    assert "version 1 is registered" in outputs(workflow, "release")["outcome"]
    assert workflow["metadata"]["annotations"]["workflows.argoproj.io/title"] == "Tune a model on your data"
    pods = [node for node in workflow["status"]["nodes"].values() if node["displayName"] == "tune(0)"]
    assert re.fullmatch(r"(\d+)/\1", pods[0]["progress"])


def test_status_and_logs_tell_of_it(first: dict[str, Any], argo: str) -> None:
    told = fineline("status", first["run"], "-n", argo)
    assert told.returncode == 0
    assert "version 1 is registered" in told.stdout
    assert first["run"] in fineline("status", "-n", argo).stdout
    log = fineline("logs", first["run"], "tune", "-n", argo).stdout
    assert "tokens/s" in log
    assert "argo=true" not in log


def ended_run(namespace: str, template: str, **parameters: str) -> dict[str, Any]:
    """Run a template as the UI does, and return its Workflow once it has ended."""
    body = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": f"{template}-", "namespace": namespace},
        "spec": {
            "workflowTemplateRef": {"name": template},
            "arguments": {"parameters": [{"name": name, "value": value} for name, value in parameters.items()]},
        },
    }
    name = kubectl("create", "-f", "-", "-o", "jsonpath={.metadata.name}", document=body).stdout
    workflow: dict[str, Any] = wait_for(lambda: ended_workflow(name, namespace), RUN_SECONDS)
    assert workflow["status"]["phase"] == "Succeeded", workflow["status"].get("message")
    return workflow


def parameters_of(run: str, namespace: str) -> dict[str, str]:
    """Return a run's parameters."""
    return {p["name"]: p["value"] for p in get("workflow", run, namespace)["spec"]["arguments"]["parameters"]}


def ended_workflow(name: str, namespace: str) -> dict[str, Any] | None:
    workflow = get("workflow", name, namespace)
    time.sleep(1)
    return workflow if ended(workflow) else None


def test_the_cron_fires_sees_nothing_new_and_ends_in_seconds(first: dict[str, Any], argo: str) -> None:
    given = parameters_of(first["run"], argo)
    told = fineline("schedule", given["recipe"], "-n", argo, "--at", "* * * * *", "--time-zone", "Europe/Berlin")
    assert told.returncode == 0, told.stderr
    try:
        listed = ["get", "workflows", "-n", argo, "-o", "json", "-l", "workflows.argoproj.io/cron-workflow=store"]
        fired = wait_for(lambda: json.loads(kubectl(*listed).stdout)["items"], 150)[0]["metadata"]["name"]
        kubectl("patch", "cronworkflow", "store", "-n", argo, "--type=merge", "-p", '{"spec":{"suspend":true}}')
        workflow = wait_for(lambda: ended_workflow(fired, argo), 180)
        assert workflow["status"]["phase"] == "Succeeded"
        checked = outputs(workflow, "check")
        assert checked["changed"] == "false"
        assert checked["verdict"] == "nothing new: version 1 has the same data, base and recipe"
        states = {n["displayName"]: n["phase"] for n in workflow["status"]["nodes"].values()}
        assert states["finetune"] == "Skipped"
        assert "tune" not in states
        told_by_status = fineline("status", fired, "-n", argo).stdout
        assert "nothing new" in told_by_status
    finally:
        assert fineline("schedule", "--remove", "store", "-n", argo).returncode == 0


def test_killing_every_steps_pod_once_does_not_fail_a_run_and_new_data_make_version_2(
    first: dict[str, Any], argo: str, rows: Callable[[str], Path]
) -> None:
    """Retraining on new rows, with each step's first pod deleted while it runs."""
    sent = fineline("submit", str(rows("Thursday")), "-n", argo, "--json")
    run = json.loads(sent.stdout)["run"]
    killed: set[str] = set()
    stop = threading.Event()

    def kill() -> None:
        while not stop.is_set():
            nodes = (get("workflow", run, argo).get("status", {}).get("nodes") or {}).values()
            # A long step is deleted once Argo has seen it run, and gets another attempt; the others as soon as their pod runs,
            # which Argo creates again.
            seen_running = {task_of(n["displayName"]) for n in nodes if n["type"] == "Pod" and n["phase"] == "Running"}
            listed = kubectl("get", "pods", "-n", argo, "-l", f"workflows.argoproj.io/workflow={run}", "-o", "json")
            for pod in json.loads(listed.stdout)["items"]:
                name = pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"]
                step = task_of(name.rpartition(".")[2])
                runs = step in seen_running if step in LONG else pod["status"]["phase"] == "Running"
                if runs and step not in killed:
                    killed.add(step)
                    kubectl("delete", "pod", pod["metadata"]["name"], "-n", argo, "--wait=false", check=False)
            stop.wait(0.5)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        workflow = wait_for(lambda: ended_workflow(run, argo), RUN_SECONDS)
    finally:
        stop.set()
        killer.join()
    assert workflow["status"]["phase"] == "Succeeded", workflow["status"].get("message")
    assert {"plan", "prepare", "tune", "evaluate", "register", "rollout", "release"} <= killed
    attempts = {node["displayName"] for node in workflow["status"]["nodes"].values() if node["type"] == "Pod"}
    assert {f"{step}(1)" for step in LONG} <= attempts
    assert outputs(workflow, "register")["version"] == "2"
    assert ask(argo, "store").strip()


def test_changed_data_are_seen_by_a_retraining_and_rollback_goes_to_the_version_before(
    first: dict[str, Any], argo: str
) -> None:
    """Version 2 is the champion; compared with it the first run's rows are new again."""
    workflow = ended_run(argo, "retrain", **parameters_of(first["run"], argo))
    assert outputs(workflow, "check")["verdict"] == "changed since version 2: data"
    assert outputs(workflow, "register") == outputs(workflow, "register") | {"version": "1", "new": "false"}
    assert served_version(argo) == 1
    back = fineline("rollback", "store", "-n", argo, "--json", "--why", "closed on Wednesdays")
    assert back.returncode == 0, back.stderr
    told = json.loads(back.stdout)
    assert (told["phase"], told["version"], told["url"]) == ("Succeeded", "2", first["url"])
    assert served_version(argo) == 2
    # The next retraining leaves it at that, and so does a second rollback.
    workflow = ended_run(argo, "retrain", **parameters_of(first["run"], argo))
    verdict = outputs(workflow, "check")["verdict"]
    assert verdict.startswith("nothing new: store version 1 was withdrawn by ")
    assert "closed on Wednesdays" in verdict
    again = fineline("rollback", "store", "-n", argo, "--json")
    assert again.returncode == 2
    assert "there is no previous champion" in json.loads(again.stdout)["message"]
    assert served_version(argo) == 2


def test_in_place_the_old_version_ends_first_and_comes_back_where_the_new_one_fails(
    first: dict[str, Any], argo: str, rows: Callable[[str], Path]
) -> None:
    """Version 3 replaces version 2: first with a server that gets no time to start, then properly."""
    in_place = ["submit", str(rows("Friday")), "-n", argo, "--watch", "--json", "-o", "serve.strategy=in-place"]
    refused = fineline(*in_place, "-o", "serve.ready_seconds=1")
    assert refused.returncode == 3
    told = json.loads(refused.stdout)
    assert re.fullmatch(r"rollout: store--v3-\w+ was not ready in \d\d s: .+", told["message"])
    assert told["message"] in fineline("status", told["run"], "-n", argo).stdout
    assert served_version(argo) == 2
    with load(f"http://{get('service', 'store', argo)['spec']['clusterIP']}/v1", "store", 2, 0.5, max_tokens=4) as met:
        done = fineline(*in_place)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == "3"
    assert served_version(argo) == 3
    assert met.broken_off == []
    assert met.answers.keys() == {"2", "3"}


def test_a_rollback_does_not_wait_for_a_training(first: dict[str, Any], argo: str, rows: Callable[[str], Path]) -> None:
    """There is a version before the champion, and another one is being trained."""
    champion = served_version(argo)
    options = ["-n", argo, "--json", "-o", "tune.epochs=100"]
    run = json.loads(fineline("submit", str(rows("Saturday")), *options).stdout)["run"]

    def tunes() -> bool:
        nodes = (get("workflow", run, argo).get("status", {}).get("nodes") or {}).values()
        return any(task_of(n["displayName"]) == "tune" and n["phase"] == "Running" for n in nodes)

    try:
        wait_for(tunes, RUN_SECONDS)
        begun = time.monotonic()
        sent = begin("rollback", "store", "-n", argo, "--json")
        wait_for(lambda: served_version(argo) != champion, 300)
        served = time.monotonic() - begun
        told, errors = sent.communicate(timeout=300)
        assert sent.returncode == 0, errors
        assert served_version(argo) == int(json.loads(told)["version"]) != champion
        assert tunes()
        print(
            f"the version before answers after {served:.0f} s, the command ends after {time.monotonic() - begun:.0f} s"
        )
        assert served < 60
    finally:
        fineline("stop", run, "-n", argo)


def served_version(namespace: str) -> int:
    address = get("service", "store", namespace)["spec"]["clusterIP"]
    return int(httpx2.get(f"http://{address}/v1/models", timeout=30).json()["data"][0]["version"])


@pytest.fixture
def argo_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argo's server for one test; other tests send data, for which the API server is needed."""
    server = os.environ.get("FINELINE_TEST_ARGO_SERVER")
    if not server:
        pytest.skip("FINELINE_TEST_ARGO_SERVER names no Argo server")
    monkeypatch.setenv("ARGO_SERVER", server)


@pytest.fixture
def with_hera(argo_server: None) -> str:
    """The lines that submit with plain Hera."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL)
    assert block
    return block[1]


def test_the_documented_lines_submit_by_plain_hera(with_hera: str, argo: str) -> None:
    assert len(with_hera.strip().splitlines()) <= 10
    script = with_hera.replace('"fineline"', f'"{argo}"').replace("http://localhost:2746", address())
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    workflow = wait_for(lambda: ended_workflow(done.stdout.strip(), argo), RUN_SECONDS)
    assert workflow["status"]["phase"] == "Succeeded", workflow["status"].get("message")
    assert ask(argo, "pet-store").strip()


def test_submit_status_and_stop_go_through_argos_server(first: dict[str, Any], argo: str, argo_server: None) -> None:
    nobody = {"KUBECONFIG": "/nowhere"}
    assert first["run"] in fineline("status", "-n", argo, environment=nobody).stdout
    recipe = json.loads(parameters_of(first["run"], argo)["recipe"])
    text = json.dumps(recipe | {"name": "other"})
    sent = fineline("submit", text, "-n", argo, "--json", environment=nobody)
    assert sent.returncode == 0, sent.stderr
    run = json.loads(sent.stdout)["run"]
    assert fineline("stop", run, "-n", argo, environment=nobody).returncode == 0
    stopped = wait_for(lambda: ended_workflow(run, argo), 120)
    assert stopped["status"]["phase"] == "Failed"
    # The exit handler has run nevertheless.
    assert "failed" in outputs(stopped, "release")["outcome"]


def test_the_argo_command_submits_the_template(first: dict[str, Any], argo: str) -> None:
    command = shutil.which("argo")
    if not command:
        pytest.skip("there is no argo command")
    recipe = parameters_of(first["run"], argo)["recipe"]
    given = ["-p", f"recipe={recipe}", "-p", "name=store", "-p", "approval=true", "-p", "epochs=1.2"]
    options = ["submit", "--from", "workflowtemplate/finetune", "-n", argo, "-o", "name", *given]
    run = subprocess.run([command, *options], capture_output=True, text=True, check=True).stdout.strip()
    before = served_version(argo)

    def waits() -> bool:
        time.sleep(1)
        nodes = get("workflow", run, argo).get("status", {}).get("nodes", {}).values()
        return any(n["displayName"] == "approve" and n["phase"] == "Running" for n in nodes)

    wait_for(waits, RUN_SECONDS)
    assert "waiting for an approval" in fineline("status", run, "-n", argo).stdout
    said = ["node", "set", run, "-n", argo, "--node-field-selector", "displayName=approve"]
    subprocess.run([command, *said, "--output-parameter", "decision=reject"], check=True)
    subprocess.run([command, "resume", run, "-n", argo], check=True)
    workflow = wait_for(lambda: ended_workflow(run, argo), 180)
    assert workflow["status"]["phase"] == "Succeeded"
    states = {n["displayName"]: n["phase"] for n in workflow["status"]["nodes"].values()}
    assert states["rollout"] == "Skipped"
    assert served_version(argo) == before


def test_a_mistake_is_one_line_on_the_node_and_at_the_prompt(argo: str) -> None:
    text = json.dumps({"name": "store", "model": "hf://no/such", "data": {"train": "/runs/data/nowhere.jsonl"}})
    done = fineline("submit", text, "-n", argo, "--watch", "--json")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    told = json.loads(done.stdout)
    assert told["message"] == "plan: /runs/data/nowhere.jsonl: no such data file"
    # The exit handler reports the same, and so does the command afterwards.
    assert outputs(get("workflow", told["run"], argo), "release")["outcome"].endswith(told["message"])
    assert told["message"] in fineline("status", told["run"], "-n", argo).stdout


def test_the_cache_is_filled_on_its_own(argo: str) -> None:
    assert outputs(ended_run(argo, "cache"), "pull")["folder"].startswith("/weights/models/")
