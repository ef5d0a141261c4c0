"""OpenAI's API in a namespace of a real cluster: jobs as Workflows that its account makes, and what that account may not."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from kubernetes.client import Configuration
from kubernetes.config import load_kube_config
from openai import NotFoundError, OpenAI

from api.cluster.cluster_addresses import COMPLETED_LABEL, ClusterAddresses
from api.cluster.cluster_jobs import ClusterJobs
from api.cluster.job_workflow import JOB_LABEL, MADE_BY, RECORD, TEAM_LABEL, name_of, new_workflow, parameters_of
from api.jobs.job_record import JobRecord
from pipelines.workflows.step_pods.containers import CONTROL_IMAGE
from recipes.reader import load
from recipes.recipe import Recipe
from steps.common.handover.installation import SECRETS_SETTING
from steps.common.kubernetes import client
from steps.common.kubernetes.workflow_objects import WORKFLOWS
from steps.common.nodes import ledger_file
from steps.common.nodes.ledger import BoughtNode, Purchase
from steps.common.runtime import cluster_settings
from steps.common.storage import volumes
from tests.api.cluster.test_workflow_state import job as job_record
from tests.cluster.test_manifests import rules
from tests.cluster.test_rights import ARGO_CONTROLLER, RESOLVED, RUNS, run_of
from tests.conftest import write_chats
from tests.support import installation
from tests.support.api_server import client_of
from tests.support.commands import wait_for
from tests.support.impersonation import Person
from tests.support.kubectl import get, kubectl
from tests.support.overlay import overlay
from tests.support.running_api import running_api
from tests.support.steps import Account

SPACE = "fineline-api-tests"
ACCOUNT = Person(f"system:serviceaccount:{SPACE}:fineline-api")
PAT, ADMIN = Person("pat"), Person("kubernetes-admin")
BASE = "smollm2-135m-instruct:pypi"
NAMES = iter(f"{number:012x}" for number in range(1, 1000))


@pytest.fixture(scope="module")
def installed(images: None, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The component in a namespace of its own, whose pod serves."""
    with installation.installed(SPACE, tmp_path_factory.mktemp("overlay"), "api"):
        kubectl("create", "rolebinding", "pat", "-n", SPACE, "--role=fineline-user", f"--user={PAT.name}")
        # The API server takes up roles and policies a moment later.
        unmarked = run_of("finetune", name="tried")
        wait_for(lambda: "each run with the label" in ACCOUNT.tries("create", RUNS, unmarked, namespace=SPACE), 60)
        wait_for(lambda: ARGO_CONTROLLER.tries("create", RUNS, unmarked, namespace=SPACE) == "", 60)
        wait_for(lambda: PAT.tries("create", RUNS, unmarked, namespace=SPACE) == "", 60)
        yield


@pytest.fixture(scope="module")
def of_the_api(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    """How the API's account connects to the cluster."""
    account = Account(tmp_path_factory.mktemp("account"), SPACE, "fineline-api", {})
    configuration = Configuration()
    load_kube_config(config_file=str(account.kubeconfig), client_configuration=configuration)
    return configuration


@pytest.fixture
def place(of_the_api: Configuration) -> ClusterJobs:
    """The jobs of the namespace, as the API's account reads and writes them."""
    client._use(of_the_api, client.SERVER_RETRIES)
    return ClusterJobs(SPACE)


@pytest.fixture(autouse=True)
def _connected_as_before() -> Iterator[None]:
    yield
    client._Process.api_client = None


def new_job(team: str = "pets", **changes: Any) -> JobRecord:
    run = f"{team}-store-{next(NAMES)}"
    return job_record(id=f"ftjob-{run}", run=run, team=team, name=f"{team}-store", **changes)


def recipe_of(job: JobRecord, **changes: str) -> Recipe:
    return load("pet-store", {"name": job.name, **changes})


def workflows(job: JobRecord) -> list[dict[str, Any]]:
    found = kubectl("get", "workflows", "-n", SPACE, "-l", f"{JOB_LABEL}={job.run}", "-o", "json").stdout
    return sorted(json.loads(found)["items"], key=lambda one: one["metadata"]["name"])


def as_argo(workflow: str, phase: str, **nodes: dict[str, Any]) -> None:
    """Write a status as Argo's controller does."""
    started, ended = "2026-11-29T20:00:00Z", "2026-11-29T20:10:00Z"
    over = {"finishedAt": ended} if phase in ("Succeeded", "Failed") else {}
    every = {
        name: {
            **{"id": name, "name": name, "displayName": name, "type": "Pod", "startedAt": started, **node},
            **({} if node["phase"] == "Running" else {"finishedAt": ended}),
        }
        for name, node in nodes.items()
    }
    top = {"id": workflow, "name": workflow, "displayName": workflow, "type": "DAG", "phase": phase, **over}
    status = {"phase": phase, "startedAt": started, **over, "nodes": {workflow: top, **every}}
    told = ARGO_CONTROLLER.tries("patch", RUNS, {"status": status}, namespace=SPACE, name=workflow, dry=False)
    assert told == ""


INTERRUPTED = {"phase": "Failed", "outputs": {"exitCode": "75"}, "message": "a checkpoint is saved"}
DONE = {"phase": "Succeeded"}


# Jobs


def test_a_job_that_is_created_again_and_again_is_one_workflow(place: ClusterJobs) -> None:
    job, failures = new_job(), list[BaseException]()

    def create() -> None:
        try:
            ClusterJobs(SPACE).create(job, recipe_of(job))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place.create(job, recipe_of(job))
    assert failures == []
    (made,) = workflows(job)
    assert made["metadata"]["name"] == job.run
    assert made["spec"]["workflowTemplateRef"]["name"] == "finetune"
    assert parameters_of(made)["name"] == "pets-store"
    assert load(parameters_of(made)["recipe"]) == recipe_of(job)
    assert place.job("pets", job.id) == job
    assert place.state(job).status == "queued"


def test_a_run_of_that_name_that_is_not_the_jobs_is_left_as_it_is(place: ClusterJobs) -> None:
    job = new_job()
    kubectl("create", "-n", SPACE, "-f", "-", document=run_of("finetune", name=job.run))
    with pytest.raises(Exception, match="another Workflow already has the name"):
        place.create(job, recipe_of(job))
    assert place.job("pets", job.id) is None


def test_a_team_sees_its_own_jobs_alone(place: ClusterJobs) -> None:
    ours, theirs = new_job("pets"), new_job("cats")
    for job in (ours, theirs):
        place.create(job, recipe_of(job))
    assert theirs not in place.jobs("pets")
    assert place.jobs("cats") == [theirs]
    assert place.job("pets", theirs.id) is None
    assert place.job("cats", theirs.id) == theirs
    assert place.jobs("dogs") == []
    for name in ("ftjob-a,b", "ftjob-", "ftjob-A=b", "x", f"ftjob-{'a' * 80}"):
        assert place.job("pets", name) is None


def test_a_paused_job_stops_and_goes_on_as_another_workflow(place: ClusterJobs) -> None:
    job = new_job()
    place.create(job, recipe_of(job))
    as_argo(job.run, "Running", plan=DONE, tune={"phase": "Running"})
    assert place.state(job).status == "running"
    place.pause(job)
    place.pause(job)
    (first,) = workflows(job)
    assert first["spec"]["shutdown"] == "Stop"
    assert place.state(job).status == "paused"
    as_argo(job.run, "Failed", plan=DONE, tune=INTERRUPTED)
    assert place.state(job).status == "paused"

    for _ in range(2):
        place.resume(job)
    first, second = workflows(job)
    assert second["metadata"]["name"] == name_of(job.run, 2)
    assert parameters_of(second) == parameters_of(first)
    assert "shutdown" not in second["spec"]
    found = place.job("pets", job.id)
    assert found is not None
    assert (found.wanted, [wish for _, wish in found.wishes]) == ("run", ["pause", "run"])
    assert place.jobs("pets").count(found) == 1
    assert place.state(job).status == "queued"
    as_argo(name_of(job.run, 2), "Succeeded", plan=DONE)
    assert place.state(job).status == "succeeded"


def test_a_cancelled_job_is_not_resumed(place: ClusterJobs) -> None:
    job = new_job()
    place.create(job, recipe_of(job))
    place.pause(job)
    place.cancel(job)
    place.pause(job)
    place.resume(job)
    (only,) = workflows(job)
    assert only["spec"]["shutdown"] == "Stop"
    assert place.state(job).status == "cancelled"


def test_a_wish_is_written_although_argo_writes_all_the_time(place: ClusterJobs) -> None:
    job, over = new_job(), threading.Event()
    place.create(job, recipe_of(job))

    def work() -> None:
        number = 0
        while not over.is_set():
            number, began = number + 1, time.monotonic()
            as_argo(job.run, "Running", plan={"phase": "Running", "progress": f"{number}/1000"})
            over.wait(
                time.monotonic() - began
            )  # so that between two writes there is time for one, on a slow machine too

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(5):
            place.pause(job)
            place.resume(job)
        place.cancel(job)
    finally:
        over.set()
        thread.join()
    found = place.job("pets", job.id)
    assert found is not None
    assert [wish for _, wish in found.wishes] == ["pause", "run"] * 5 + ["cancel"]
    assert [one["spec"].get("shutdown") for one in workflows(job)] == ["Stop"] * 6


def test_what_is_resumed_goes_on_counting_against_its_budget(place: ClusterJobs) -> None:
    job = new_job()
    place.create(job, recipe_of(job, **{"compute.max_cost": "10"}))
    place.pause(job)
    node = BoughtNode(name="n", instance_type="g6.xlarge", capacity="spot", price=4.0, since=0, until=3600)
    file = volumes.run_folder(job.run) / "purchase.json"
    file.parent.mkdir(parents=True)
    file.write_text(Purchase(offers=[], machines=[node]).model_dump_json())
    place.resume(job)
    budgets = [load(parameters_of(one)["recipe"]).compute.max_cost for one in workflows(job)]
    assert budgets == [10.0, 10.0]
    carried = ledger_file.load(name_of(job.run, 2))
    assert carried is not None
    assert carried.machines == [node]
    resumed = place.job("pets", job.id)
    assert resumed is not None
    assert place.spent(resumed).dollars == 4.0


def test_an_ended_job_outlives_its_workflow(place: ClusterJobs) -> None:
    job = new_job()
    place.create(job, recipe_of(job))
    as_argo(
        job.run, "Failed", plan=DONE, evaluate={"phase": "Failed", "outputs": {"exitCode": "3"}, "message": "worse"}
    )
    before = ClusterJobs(SPACE).state(job)
    assert (before.status, before.refused) == ("failed", True)
    kubectl("delete", "workflow", job.run, "-n", SPACE)
    assert place.job("pets", job.id) == job
    assert job in place.jobs("pets")
    assert place.job("cats", job.id) is None
    assert place.state(job) == before
    place.create(job, recipe_of(job))
    assert workflows(job) == []


def test_jobs_that_nobody_asks_for_are_kept_although_one_cannot_be_read(
    place: ClusterJobs, caplog: pytest.LogCaptureFixture
) -> None:
    unread, readable = new_job("moles"), new_job("birds")
    body = new_workflow(unread, {}, 1)
    body["metadata"] |= {"namespace": SPACE, "annotations": {RECORD: "{}"}}
    WORKFLOWS.create(body, SPACE)
    place.create(readable, recipe_of(readable))
    for job in (unread, readable):
        as_argo(job.run, "Succeeded", plan=DONE)
    ClusterJobs(SPACE).keep_ended()
    assert [one.getMessage() for one in caplog.records] == [f"the job of Workflow {unread.run} could not be kept"]
    kubectl("delete", "workflow", unread.run, readable.run, "-n", SPACE)
    assert place.jobs("birds") == [readable]
    assert place.state(readable).status == "succeeded"


# What the account may not


def test_the_api_starts_nothing_but_what_its_routes_start(place: ClusterJobs) -> None:
    labels = {MADE_BY: "api"}

    def starting(template: str, labels: dict[str, str] = labels, **spec: Any) -> str:
        body = run_of(template, name="tried", **spec)
        body["metadata"]["labels"] = labels
        return ACCOUNT.tries("create", RUNS, body, namespace=SPACE)

    assert starting("finetune") == ""
    assert starting("stop-serving") == ""
    for template in ("rollback", "backup", "receive", "recover", "prune", "retrain"):
        assert "the API starts finetune and stop-serving" in starting(template)
    assert "each run with the label" in starting("finetune", {})
    assert "a run sets only the arguments" in starting("finetune", entrypoint="rollout")
    secrets = {"parameters": [{"name": "secrets", "value": "theirs"}]}
    assert "the parameter secrets of a run is one of" in starting("finetune", arguments=secrets)
    sent = {**run_of("finetune", name="tried"), "status": RESOLVED}
    sent["metadata"]["labels"] = labels
    assert "a new run has no status" in ACCOUNT.tries("create", RUNS, sent, namespace=SPACE)


def test_the_api_stops_its_own_runs_and_changes_nothing_else(place: ClusterJobs) -> None:
    job = new_job()
    place.create(job, recipe_of(job))
    kubectl("create", "-n", SPACE, "-f", "-", document=run_of("finetune", name="of-a-person"))

    def change(name: str, body: dict[str, Any]) -> str:
        return ACCOUNT.tries("patch", RUNS, body, namespace=SPACE, name=name)

    refused = "the API stops the runs that it has made, and changes nothing else"
    stop = {"spec": {"shutdown": "Stop"}}
    assert change(job.run, stop) == ""
    assert refused in change("of-a-person", stop)
    assert refused in change("of-a-person", {"metadata": {"labels": {MADE_BY: "api"}}, **stop})
    assert refused in change("of-a-person", {"metadata": {"annotations": {RECORD: "{}"}}})
    assert refused in change(job.run, {"spec": {"suspend": True}})
    assert refused in change(job.run, {"spec": {"arguments": {"parameters": []}}})
    assert refused in change(job.run, {"metadata": {"labels": {TEAM_LABEL: "cats"}}})
    assert "bind the role fineline-approver" in change(job.run, {"status": {"phase": "Succeeded"}})
    assert "cannot delete resource" in ACCOUNT.tries("delete", RUNS, namespace=SPACE, name=job.run)
    for kind in ("pods", "secrets", "configmaps", "deployments.apps", "cronworkflows.argoproj.io"):
        assert "cannot create resource" in ACCOUNT.tries("create", kind, {"metadata": {"name": "x"}}, namespace=SPACE)
    assert "cannot delete resource" in ACCOUNT.tries("delete", "services", namespace=SPACE, name="fineline-api")


def test_nobody_else_passes_a_run_off_as_a_teams(place: ClusterJobs) -> None:
    job = new_job()
    place.create(job, recipe_of(job))
    (made,) = workflows(job)
    marks = made["metadata"]["labels"]
    refused = "only the API marks a run as its own or a team's"
    for person in (PAT, ARGO_CONTROLLER):
        for labels in ({TEAM_LABEL: "pets"}, {MADE_BY: "api"}, {JOB_LABEL: job.run}, marks):
            body = run_of("finetune", name="forged")
            body["metadata"]["labels"] = labels
            assert refused in person.tries("create", RUNS, body, namespace=SPACE)
        for change in (
            {"labels": {TEAM_LABEL: "cats"}},
            {"labels": {JOB_LABEL: None}},
            {"annotations": {RECORD: job.model_copy(update={"team": "cats"}).model_dump_json()}},
        ):
            assert refused in person.tries("patch", RUNS, {"metadata": change}, namespace=SPACE, name=job.run)
    # People still stop any run, and Argo labels it.
    assert PAT.tries("patch", RUNS, {"spec": {"shutdown": "Stop"}}, namespace=SPACE, name=job.run) == ""
    own = {"metadata": {"labels": {COMPLETED_LABEL: "true"}}}
    assert ARGO_CONTROLLER.tries("patch", RUNS, own, namespace=SPACE, name=job.run) == ""


# The component


def api_of(text: str) -> dict[str, Any]:
    documents = list(yaml.safe_load_all(text))
    (found,) = (one for one in documents if (one["kind"], one["metadata"]["name"]) == ("Deployment", "fineline-api"))
    return dict(found["spec"])


def test_with_postgres_there_are_two_replicas_and_no_volume(installed: None, tmp_path: Path) -> None:
    place = str(overlay(tmp_path, SPACE, "api-postgres"))
    kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts", "-k", place)
    text = kubectl("kustomize", place).stdout
    spec = api_of(text)
    (container,) = spec["template"]["spec"]["containers"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (2, "RollingUpdate")
    assert [one for one in container["env"] if one["name"] == "FINELINE_API_DATABASE"] == [
        {
            "name": "FINELINE_API_DATABASE",
            "valueFrom": {"secretKeyRef": {"name": "fineline-api-store", "key": "database"}},
        }
    ]
    named = {one["name"] for one in [*container["volumeMounts"], *spec["template"]["spec"]["volumes"]]}
    assert named == {"runs", "weights", "certificates", "tmp"}
    claims = {one["metadata"]["name"] for one in yaml.safe_load_all(text) if one["kind"] == "PersistentVolumeClaim"}
    assert "fineline-api" not in claims


def test_the_api_reads_the_secrets_of_the_first_prefix(
    place: ClusterJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefixes = "data-science, fineline"
    change = f'[{{"op": "replace", "path": "/data/FINELINE_SECRETS", "value": "{prefixes}"}}]'
    patches = [{"target": {"kind": "ConfigMap", "name": "fineline"}, "patch": change}]
    text = kubectl("kustomize", str(overlay(tmp_path, SPACE, "api", upon="base", patches=patches))).stdout
    (container,) = api_of(text)["template"]["spec"]["containers"]
    references = [one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one]
    references += [one["secretRef"] for one in container["envFrom"] if "secretRef" in one]
    kinds = ("api-key", "mlflow", "hub", "object-store")
    assert {one["name"] for one in references} == {f"data-science-{kind}" for kind in kinds}
    # So do its jobs.
    monkeypatch.setenv(SECRETS_SETTING, f"fineline, {prefixes}")
    place.create(job := new_job(), recipe_of(job, secrets="data-science"))
    (made,) = workflows(job)
    assert parameters_of(made)["secrets"] == load(parameters_of(made)["recipe"]).secrets == "fineline"


def test_the_api_is_reached_by_its_port_alone(installed: None, tmp_path: Path) -> None:
    text = kubectl("kustomize", str(overlay(tmp_path, SPACE, "api", upon="base"))).stdout
    policies = [one for one in yaml.safe_load_all(text) if one["kind"] == "NetworkPolicy"]
    spec = api_of(text)["template"]
    labels, (container,) = spec["metadata"]["labels"], spec["spec"]["containers"]
    (ingress,) = rules(policies, labels, "ingress")
    assert ingress["ports"] == [{"protocol": "TCP", "port": container["ports"][0]["containerPort"]}]
    assert container["resources"]["requests"].keys() == container["resources"]["limits"].keys() == {"cpu", "memory"}
    assert container["image"] == CONTROL_IMAGE


# What is served


@dataclass
class ServedObjects:
    """A model's objects, as a rollout would have made them; no pod of them starts."""

    name: str

    def apply(self) -> None:
        labels = {"app.kubernetes.io/part-of": "fineline", "fineline.dev/model": self.name, "fineline.dev/version": "2"}
        labels |= {"app.kubernetes.io/component": "server"}
        version = f"{self.name}--v2-01234567"
        pods = {"fineline.dev/model": self.name, "fineline.dev/version-digest": "0123456789abcdef"}
        spec = {"selector": pods, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
        for name in (self.name, version):
            metadata = {"name": name, "namespace": SPACE, "labels": labels}
            kubectl(
                "apply", "-f", "-", document={"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
            )
        container = {"name": "main", "image": "none"}
        template = {"metadata": {"labels": pods}, "spec": {"containers": [container]}}
        body = {"replicas": 0, "selector": {"matchLabels": pods}, "template": template}
        metadata = {"name": version, "namespace": SPACE, "labels": labels}
        kubectl(
            "apply",
            "-f",
            "-",
            document={"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": body},
        )


def test_a_models_address_is_that_of_its_service(place: ClusterJobs) -> None:
    addresses = ClusterAddresses(SPACE)
    assert addresses.url("pets-shop") is None
    ServedObjects("pets-shop").apply()
    assert addresses.url("pets-shop") == f"http://pets-shop.{SPACE}.svc/v1"
    assert addresses.url("fineline-api") is None  # a Service, and no model's
    assert addresses.url("kubernetes") is None


def test_deleting_a_model_stops_what_serves_it(place: ClusterJobs, tmp_path: Path) -> None:
    for name in ("pets-old", "pets-new"):
        ServedObjects(name).apply()
    addresses = ClusterAddresses(SPACE)

    def stop(name: str) -> list[dict[str, Any]]:
        addresses.stop(name)
        listed = kubectl("get", "workflows", "-n", SPACE, "-l", f"{MADE_BY}=api,!{JOB_LABEL}", "-o", "json").stdout
        return list(json.loads(listed)["items"])

    assert stop("pets-none") == []
    (run,) = stop("pets-old")
    assert run["spec"]["workflowTemplateRef"]["name"] == "stop-serving"
    assert parameters_of(run) == {"name": "pets-old"}
    # While that run is under way, no other is started; if it has failed, the same request starts the next.
    assert len(stop("pets-old")) == 1
    failed = {"metadata": {"labels": {COMPLETED_LABEL: "true"}}, "status": {"phase": "Failed"}}
    told = ARGO_CONTROLLER.tries("patch", RUNS, failed, namespace=SPACE, name=run["metadata"]["name"], dry=False)
    assert told == ""
    assert len(stop("pets-old")) == 2

    settings = {cluster_settings.SERVE_IMAGE_SETTING: "fineline-serve:0.1.0"}
    rollout = Account(tmp_path, SPACE, "fineline-rollout", settings)

    def stopped(name: str) -> str:
        done = rollout.run("steps.rollout.stop_serving:stop_serving", {"name": name})
        assert done.code == 0, done.log
        return done.outputs["stopped"]

    assert stopped("pets-old") == "pets-old is no longer served: deleted pets-old--v2-01234567"
    assert len(stop("pets-old")) == 2
    left = kubectl("get", "services,deployments", "-n", SPACE, "-l", "fineline.dev/model", "-o", "name").stdout
    assert "pets-old" not in left
    assert "service/pets-new" in left
    assert "deployment.apps/pets-new--v2-01234567" in left
    assert addresses.url("pets-old") is None
    assert stopped("pets-old") == "pets-old was not served"


# The whole API over it


def test_openais_client_makes_and_steers_a_job(place: ClusterJobs, tmp_path: Path) -> None:
    with running_api(tmp_path, jobs=place, addresses=ClusterAddresses(SPACE)) as api:
        ours, theirs = api.client("pets"), api.client("cats")
        rows = tmp_path / "rows.jsonl"
        write_chats(rows)
        file = ours.files.create(file=rows, purpose="fine-tune")
        job = ours.fine_tuning.jobs.create(model=BASE, training_file=file.id, suffix="made", metadata={"a": "b"})
        assert job.status in ("queued", "validating_files")
        (made,) = (one for one in workflows_of_team("pets") if parameters_of(one)["name"] == "pets-made")
        run = made["metadata"]["name"]
        assert job.id == f"ftjob-{run}"
        place_of_rows = load(parameters_of(made)["recipe"]).data.train
        assert Path(str(place_of_rows)).read_bytes() == rows.read_bytes()

        as_argo(run, "Running", plan=DONE, tune={"phase": "Running"})
        assert ours.fine_tuning.jobs.retrieve(job.id).status == "running"
        assert ours.fine_tuning.jobs.pause(job.id).status == "paused"
        as_argo(run, "Failed", plan=DONE, tune=INTERRUPTED)
        assert ours.fine_tuning.jobs.resume(job.id).status == "queued"
        told = [event.message for event in ours.fine_tuning.jobs.list_events(job.id)]
        assert {"Pause requested", "Resumption requested"} <= set(told)
        for steer in ("retrieve", "cancel", "pause", "resume", "list_events"):
            with pytest.raises(NotFoundError):
                getattr(theirs.fine_tuning.jobs, steer)(job.id)
        assert job.id not in [one.id for one in theirs.fine_tuning.jobs.list()]
        assert ours.fine_tuning.jobs.cancel(job.id).status == "cancelled"
        assert [one["spec"].get("shutdown") for one in workflows_of_team("pets") if run in one["metadata"]["name"]] == [
            "Stop",
            "Stop",
        ]


def workflows_of_team(team: str) -> list[dict[str, Any]]:
    found = kubectl("get", "workflows", "-n", SPACE, "-l", f"{TEAM_LABEL}={team}", "-o", "json").stdout
    return list(json.loads(found)["items"])


# Its own pod


@pytest.fixture
def address(installed: None) -> str:
    """The address of the API's Service."""
    return f"http://{get('service', 'fineline-api', SPACE)['spec']['clusterIP']}"


def client_of_pod(address: str, team: str) -> OpenAI:
    command = ["fineline", "api", "keys", "make", team, "--json"]
    made = kubectl("exec", "-n", SPACE, "deployment/fineline-api", "--", *command).stdout
    return client_of(address, str(httpx2.Response(200, text=made).json()["key"]))


def ready_pods() -> set[str]:
    """Return the names of the API's pods that serve."""
    selected = ["pods", "-n", SPACE, "-l", "app.kubernetes.io/component=api", "-o", "json"]
    found = json.loads(kubectl("get", *selected).stdout)["items"]
    conditions = {one["metadata"]["name"]: one["status"].get("conditions", []) for one in found}
    ready = {"type": "Ready", "status": "True"}
    return {name for name, given in conditions.items() if any(ready.items() <= one.items() for one in given)}


def test_a_job_goes_on_when_the_apis_pod_is_killed(address: str, tmp_path: Path) -> None:
    ours, theirs = client_of_pod(address, "shops"), client_of_pod(address, "rivals")
    file = ours.files.create(file=write_chats(tmp_path / "rows.jsonl"), purpose="fine-tune")
    job = ours.fine_tuning.jobs.create(model=BASE, training_file=file.id, suffix="store")
    assert [one.id for one in ours.fine_tuning.jobs.list()] == [job.id]
    run = job.id.removeprefix("ftjob-")
    assert get("workflow", run, SPACE)["spec"]["workflowTemplateRef"]["name"] == "finetune"
    with pytest.raises(NotFoundError):
        theirs.fine_tuning.jobs.retrieve(job.id)

    killed = ready_pods()
    kubectl("delete", "pods", "-n", SPACE, *killed, "--grace-period=0", "--force")
    wait_for(lambda: ready_pods() - killed, 300)
    # The Service leads to the new pod a moment later.
    ours = ours.with_options(max_retries=10)
    assert [one.id for one in ours.fine_tuning.jobs.list()] == [job.id]
    assert ours.files.content(file.id).text == (tmp_path / "rows.jsonl").read_text()
    assert ours.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    assert get("workflow", run, SPACE)["spec"]["shutdown"] == "Stop"


def test_the_pod_reaches_the_registry_and_copies_its_database(address: str) -> None:
    client_of_pod(address, "birds")
    script = """
from api.api_settings import api_settings
from api.cluster.database_copy import keep_copy
from api.models.registered_models import is_registered
from steps.backup.api_database import has_teams
from steps.common.storage import volumes
keep_copy(api_settings().database)
print(is_registered("pets-none"), has_teams(volumes.api_database_copy()))
"""
    told = kubectl("exec", "-n", SPACE, "deployment/fineline-api", "--", "python", "-c", script).stdout
    assert told.split() == ["False", "True"]
