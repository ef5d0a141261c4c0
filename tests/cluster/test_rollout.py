"""Rollouts on the cluster under constant load: the rollout's own code, with the permissions of its account.

The served pods are the real ones, of a two-layer model. Names of Services are not known outside of the cluster; what runs
outside of it here asks their addresses.
"""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from recipes.reader import load as load_recipe
from steps.common.handover.resolved import Resolved
from steps.common.kubernetes import client
from steps.common.kubernetes.owner import ForeignObjectError
from steps.common.rows.conversation import Conversation
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import RefusedError
from steps.common.storage import volumes
from steps.evaluate.scores.score import EvaluationSet, score
from steps.plan.step import PlanInput, resolve
from steps.rollout.checks.before_start import check_model
from steps.rollout.lease.right import Purpose
from steps.rollout.lease.serving_lease import serving_lease
from steps.rollout.order import RolloutRecord, roll_out
from steps.rollout.places import cluster_place
from steps.rollout.places.cluster_place import ClusterPlace
from steps.rollout.pods.model_objects import highest_fence
from steps.rollout.pods.object_names import of_version, version_digest
from steps.rollout.pods.version_objects import VersionSpec, deployment, service
from steps.rollout.trial.live_gate import LiveQuestion
from tests.conftest import write_chats
from tests.pipelines.machine.test_versions import shuffle
from tests.support.commands import wait_for
from tests.support.kubectl import get, kubectl
from tests.support.load import Load, load, wait_until_answered
from tests.support.pods import restricted
from tests.support.steps import Account

NAME, TOKENS = "rolled", 8
ASK = ["when do you have food", "are you open on monday", "do you have birds"]


class Rollouts:
    """The versions of one model, on the cluster's runs volume."""

    def __init__(self, namespace: str, folder: Path, planned: Resolved, model: Path) -> None:
        self.namespace, self.folder, self.planned, self.base = namespace, folder, planned, model
        self.told = RolloutRecord(version=0, old_version=None)
        self.seconds, self.champion = 0.0, 0

    def model(self, version: int, seed: int) -> Path:
        """Make a model of the same shape with slightly different weights."""
        import torch
        from safetensors.torch import load_file, save_file

        made = self.folder / "merged" / f"version-{version}"
        shutil.copytree(self.base, made)
        weights = made / "model.safetensors"
        before = load_file(weights)
        for attempt in range(50):
            torch.manual_seed(100 * seed + attempt)
            tensors = {name: one + 0.1 * torch.randn_like(one) for name, one in before.items()}
            save_file(tensors, weights, metadata={"format": "pt"})
            if all(question.candidate for question in self.asked(made)):
                return made
        raise AssertionError("no such model has anything to say")

    def send(self, model: Path) -> None:
        for path in model.iterdir():
            path.chmod(0o644)
        target = f"{self.namespace}/copier:/runs/merged/"
        kubectl("cp", str(model), target)

    def asked(self, model: Path) -> list[LiveQuestion]:
        """The evaluation's questions, with this model's answers."""
        evaluation = EvaluationSet([], [Conversation.of(("user", text)) for text in ASK], TOKENS, general=False)
        answers = score(model, evaluation, 64, "cpu", "candidate").answers
        chats = [[{"role": "user", "content": text}] for text in ASK]
        return [LiveQuestion(chat, answer) for chat, answer in zip(chats, answers, strict=True)]

    def roll_out(
        self,
        version: int,
        model: Path,
        asked: list[LiveQuestion],
        *,
        back: bool = False,
        name: str = NAME,
        adapter: str = "",
        replicas: int = 1,
        **serve: Any,
    ) -> None:
        changed = self.planned.recipe.serve.model_copy(update=serve)
        recipe = self.planned.recipe.model_copy(update={"serve": changed, "name": name})
        plan = self.planned.serving_plan.model_copy(update={"replicas": replicas})
        updates = {"recipe": recipe, "run": f"run-{version}", "serving_plan": plan}
        resolved = self.planned.model_copy(update=updates)
        self.told = RolloutRecord(version=version, old_version=None)
        begun = time.monotonic()
        digest = adapter or f"digest-{version}"
        with self.place(resolved, version, model, back=back, digest=digest) as place:
            if not place.serves_already():
                decide = partial(self.make_champion, version)
                roll_out(place, resolved, self.told, asked, back=back, make_champion=decide)
        self.seconds = time.monotonic() - begun

    @contextmanager
    def place(
        self,
        resolved: Resolved,
        version: int,
        model: Path,
        *,
        size: int = 0,
        back: bool = False,
        digest: str = "",
    ) -> Iterator[ClusterPlace]:
        """Hold the model's Lease, as the rollout step does."""
        purpose, name = Purpose.ROLLBACK if back else Purpose.ROLLOUT, resolved.recipe.name
        with serving_lease(name, purpose, version, lambda: highest_fence(name)) as lease:
            given = (
                size or check_model(model),
                digest or f"digest-{version}",
                self.base,
                self.base,
                self.champion,
                lease,
            )
            yield ClusterPlace(resolved, version, model, *given)

    def make_champion(self, version: int) -> None:
        self.champion = version

    @property
    def url(self) -> str:
        return address(self.namespace, NAME)

    def live(self) -> str:
        version: str = get("service", NAME, self.namespace)["metadata"]["labels"]["fineline.dev/version"]
        return version

    def deployment(self, version: int) -> dict[str, Any]:
        (found,) = self.find("deployments", version)
        return found

    def find(self, kind: str, version: int, name: str = NAME) -> list[dict[str, Any]]:
        """Return a version's objects of a kind; the live Service is not one of them."""
        labels = f"fineline.dev/model={name},fineline.dev/version={version}"
        found = json.loads(kubectl("get", kind, "-n", self.namespace, "-l", labels, "-o", "json").stdout)["items"]
        return [one for one in found if one["metadata"]["name"] != name]

    def has_traffic(self, deployment: dict[str, Any], name: str = NAME) -> bool:
        selector: dict[str, str] = get("service", name, self.namespace)["spec"]["selector"]
        return bool(selector == deployment["spec"]["selector"]["matchLabels"])


def name_of(deployment: dict[str, Any]) -> str:
    return f"deployment.apps/{deployment['metadata']['name']}"


def address(namespace: str, service: str) -> str:
    return f"http://{get('service', service, namespace)['spec']['clusterIP']}/v1"


@pytest.fixture(scope="module")
def rollouts(namespace: str, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Rollouts]:
    from kubernetes import config

    folder = tmp_path_factory.mktemp("rollouts")
    account = Account(folder, namespace, "fineline-rollout", {})
    changes = {"name": NAME, "model": tiny_model.as_uri(), "data.train": str(write_chats(folder / "chats.jsonl"))}
    limits = {
        "serve.watch_seconds": "8",
        "serve.watch_latency_factor": "1000",  # the machine is loaded now more, now less
        "serve.answer_seconds": "30",
        "evaluate.answer_tokens": str(TOKENS),
        "data.validation": "",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(volumes.RUNS_SETTING, str(folder))
        recipe = load_recipe("pet-store", {**changes, **limits, "data.max_tokens": "64"})
        planned = resolve(PlanInput(recipe=json.dumps(recipe.model_dump(mode="json"))))
        copier = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "copier", "namespace": namespace},
            "spec": {
                "containers": [
                    {
                        "name": "main",
                        "image": "fineline-serve:0.1.0",
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sleep", "7200"],
                        "volumeMounts": [{"name": "runs", "mountPath": "/runs"}],
                    }
                ],
                "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": "fineline-runs"}}],
                "terminationGracePeriodSeconds": 0,
            },
        }
        kubectl("apply", "-f", "-", document=restricted(copier))
        kubectl("wait", "pod/copier", "-n", namespace, "--for=condition=Ready", "--timeout=120s")
        kubectl("exec", "copier", "-n", namespace, "--", "mkdir", "-p", "/runs/merged")
        patch.setattr(ClusterPlace, "_url", lambda _, service: address(namespace, service))
        patch.setenv(cluster_settings.SERVE_IMAGE_SETTING, "fineline-serve:0.1.0")
        patch.setenv("FINELINE_API_KEY_DEFAULT", "none")
        patch.setattr(cluster_settings, "namespace", lambda: namespace)
        made = config.new_client_from_config(config_file=str(account.kubeconfig))
        patch.setattr(client, "connection", lambda: made)
        yield Rollouts(namespace, folder, planned, tiny_model)
        kubectl("delete", "pod", "copier", "-n", namespace)
    models = ["-n", namespace, "-l", f"fineline.dev/model in ({NAME},{NAME}-v2,upgraded)"]
    kubectl("delete", "deployments,services", *models)
    # Each pod would wait for its last answers, and the namespace for each pod.
    kubectl("delete", "pods", *models, "--grace-period=1")


@pytest.fixture(autouse=True)
def _settings(rollouts: Rollouts, monkeypatch: pytest.MonkeyPatch, _volumes: None) -> None:
    monkeypatch.setenv(volumes.RUNS_SETTING, str(rollouts.folder))


@pytest.fixture(scope="module")
def first(rollouts: Rollouts) -> tuple[Path, list[LiveQuestion]]:
    """The rollout of a first version."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(volumes.RUNS_SETTING, str(rollouts.folder))
        model = rollouts.model(1, seed=1)
        rollouts.send(model)
        asked = rollouts.asked(model)
        rollouts.roll_out(1, model, asked)
        assert rollouts.told.watched is None  # there is no earlier version
        return model, asked


@pytest.fixture(scope="module")
def neighbour(rollouts: Rollouts) -> list[dict[str, Any]]:
    """What serves another model, called as 0.1.0 called the objects of this one's second version."""
    name = f"{NAME}-v2"
    labels = {"app.kubernetes.io/part-of": "fineline", "fineline.dev/model": name, "fineline.dev/version": "1"}
    selector = {"fineline.dev/model": name, "fineline.dev/version": "1"}
    pods = {"containers": [{"name": "main", "image": "none"}]}
    metadata = {"name": name, "namespace": rollouts.namespace, "labels": labels}
    made = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": selector},
                "template": {"metadata": {"labels": labels}, "spec": pods},
            },
        },
    ]
    for one in made:
        kubectl("apply", "-f", "-", document=one)
    return [get(kind, name, rollouts.namespace) for kind in ("service", "deployment")]


@pytest.fixture(scope="module")
def second(rollouts: Rollouts, first: Any, neighbour: Any) -> tuple[Load, RolloutRecord]:
    """The rollout of a good second version, under load."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(volumes.RUNS_SETTING, str(rollouts.folder))
        model = rollouts.model(2, seed=2)
        rollouts.send(model)
        asked = rollouts.asked(model)
        with load(rollouts.url, NAME, max_tokens=4) as met:
            time.sleep(2)
            rollouts.roll_out(2, model, asked)
            # The old pod has to leave its Service, finish its answers and end.
            pods = ["get", "pods", "-n", rollouts.namespace, "-o", "name", "-l"]
            old = f"fineline.dev/model={NAME},app.kubernetes.io/version=1"
            wait_for(lambda: not kubectl(*pods, old).stdout, 120)
            time.sleep(2)
        return met, rollouts.told


def test_a_good_second_version_takes_over_and_not_one_request_fails(
    rollouts: Rollouts, second: tuple[Load, RolloutRecord]
) -> None:
    met, told = second
    assert met.failures == []
    assert met.answers.keys() == {"1", "2"}
    assert rollouts.live() == "2"
    assert told.strategy == "blue-green"
    assert told.gate is not None
    assert told.gate.alike == 1.0
    assert told.watched is not None
    assert (told.watched.failures, told.watched.probe_failures) == (0, 0)
    assert told.watched.answers > told.watched.probes


def test_the_version_before_is_kept_to_go_back_to_without_a_pod(rollouts: Rollouts, second: Any) -> None:
    kept = rollouts.deployment(1)
    assert kept["spec"]["replicas"] == 0
    assert kept["metadata"]["labels"]["fineline.dev/state"] == "previous"
    assert rollouts.deployment(2)["metadata"]["labels"]["fineline.dev/state"] == "live"
    assert "fineline.dev/on-trial-after" not in get("service", NAME, rollouts.namespace)["metadata"]["annotations"]


def test_a_version_that_is_fine_offline_and_broken_when_served_gets_no_traffic_and_is_kept_for_a_look(
    rollouts: Rollouts, second: Any
) -> None:
    model = rollouts.model(3, seed=3)
    asked = rollouts.asked(model)
    shuffle(model / "model.safetensors")
    rollouts.send(model)
    with load(rollouts.url, NAME, max_tokens=4) as met:
        with pytest.raises(RefusedError, match="answers match the evaluation's with a similarity of"):
            rollouts.roll_out(3, model, asked)
        time.sleep(2)
    assert met.failures == []
    assert met.answers.keys() == {"2"}
    assert rollouts.live() == "2"
    kept = rollouts.deployment(3)
    assert kept["metadata"]["labels"]["fineline.dev/state"] == "refused"
    reason = kept["metadata"]["annotations"]["fineline.dev/refused-because"]
    assert "answers match the evaluation's with a similarity of" in reason
    assert kept["status"]["readyReplicas"] == 1
    assert rollouts.find("services", 3) == []


def test_a_version_that_cannot_start_is_refused_with_what_its_pod_says_and_the_one_kept_before_goes(
    rollouts: Rollouts, second: Any
) -> None:
    model = rollouts.model(4, seed=4)
    config = (model / "config.json").read_text()
    (model / "config.json").write_text('{"model_type": "no-such-type"}')
    rollouts.send(model)
    with load(rollouts.url, NAME, clients=2, max_tokens=4) as met:
        with pytest.raises(RefusedError, match=r"v4-\w+ was not ready in \d+ s: container server"):
            rollouts.roll_out(4, model, [])
        # Fixed and rolled out again, it starts with a new pod, whatever happened before.
        (model / "config.json").write_text(config)
        rollouts.send(model)
        other = [LiveQuestion([{"role": "user", "content": ASK[0]}], "what no model of these would say")]
        with pytest.raises(RefusedError, match="answers match the evaluation's with a similarity of"):
            rollouts.roll_out(4, model, other)
    assert met.failures == []
    assert met.answers.keys() == {"2"}
    assert rollouts.find("deployments", 3) == []


def test_a_version_that_dies_once_it_has_the_traffic_loses_it(rollouts: Rollouts, second: Any) -> None:
    model = rollouts.model(5, seed=5)
    rollouts.send(model)
    asked = rollouts.asked(model)

    def kill_it() -> None:
        wait_for(lambda: rollouts.live() == "5", 300)
        time.sleep(4)  # once the first question has been answered
        end = "import os, signal; os.kill(1, signal.SIGTERM)"
        pod = ["exec", name_of(rollouts.deployment(5)), "-n", rollouts.namespace, "-c", "server"]
        kubectl(*pod, "--", "python3", "-c", end)

    killing = threading.Thread(target=kill_it)
    killing.start()
    with pytest.raises(RefusedError, match="answers failed in the"):
        rollouts.roll_out(5, model, asked, watch_seconds=20)
    killing.join(60)
    assert rollouts.live() == "2"
    assert rollouts.deployment(2)["status"]["readyReplicas"] == 1
    with load(rollouts.url, NAME, clients=2, max_tokens=4) as met:
        time.sleep(2)
    assert met.failures == []
    assert met.answers.keys() == {"2"}


def test_a_person_goes_back_to_the_version_before_and_not_one_request_fails(
    rollouts: Rollouts, first: tuple[Path, list[LiveQuestion]], second: Any
) -> None:
    model, asked = first
    with load(rollouts.url, NAME, max_tokens=4) as met:
        rollouts.roll_out(1, model, asked, back=True)
        wait_for(lambda: met.answers["1"], 60)  # a client keeps its connection for seconds
    print(f"back after {rollouts.seconds:.1f} s")
    assert met.failures == []
    assert met.answers.keys() == {"1", "2"}
    assert rollouts.live() == "1"
    assert rollouts.deployment(2)["spec"]["replicas"] == 0
    names = kubectl("get", "deployments", "-n", rollouts.namespace, "-l", f"fineline.dev/model={NAME}", "-o", "name")
    assert sorted(names.stdout.split()) == [name_of(rollouts.deployment(number)) for number in (1, 2)]


def test_a_rollout_that_was_lost_after_the_switch_begins_with_the_old_version(rollouts: Rollouts, second: Any) -> None:
    before = rollouts.live()
    service = get("service", NAME, rollouts.namespace)
    other = {"1": "2", "2": "1"}[before]
    old, new = rollouts.deployment(int(before)), rollouts.deployment(int(other))
    kept = {key: service["metadata"][key] for key in ("name", "namespace")}
    labels = {**service["metadata"]["labels"], **new["spec"]["selector"]["matchLabels"], "fineline.dev/version": other}
    lost = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            **kept,
            "labels": labels,
            "annotations": {"fineline.dev/on-trial-after": old["metadata"]["name"]},
        },
        "spec": {"selector": new["spec"]["selector"]["matchLabels"], "ports": service["spec"]["ports"]},
    }
    as_a_rollout = ["--server-side", "--field-manager=fineline", "--force-conflicts"]
    kubectl("apply", *as_a_rollout, "-f", "-", document=lost)
    assert rollouts.live() == other
    model = rollouts.folder / "merged" / "version-1"
    with rollouts.place(rollouts.planned, 9, model, size=1) as place:
        assert str(place.old_version) == before
    assert rollouts.live() == before
    annotations = get("service", NAME, rollouts.namespace)["metadata"]["annotations"]
    assert annotations["fineline.dev/adapter-sha256"] == f"digest-{before}"
    assert "fineline.dev/on-trial-after" not in annotations


def test_a_rollout_in_place_that_was_lost_and_then_fails_brings_the_old_version_back(
    rollouts: Rollouts, second: Any
) -> None:
    before, model = rollouts.live(), rollouts.model(6, seed=6)
    config = (model / "config.json").read_text()
    (model / "config.json").write_text('{"model_type": "no-such-type"}')
    rollouts.send(model)
    with load(rollouts.url, NAME, clients=2, pause=0.5, max_tokens=4) as met:
        wait_for(lambda: met.answers[before], 60)
        # As far as an interrupted attempt got.
        with rollouts.place(rollouts.planned, 6, model, size=1) as place:
            place.stop_old()
        with pytest.raises(RefusedError, match=r"v6-\w+ was not ready in \d+ s: container server") as caught:
            rollouts.roll_out(6, model, [])
        answers = met.answers[before]
        wait_for(lambda: met.answers[before] > answers + 5, 60)
    (model / "config.json").write_text(config)
    rollouts.send(model)
    assert "\n" not in str(caught.value)
    assert rollouts.told.why == f"an earlier rollout stopped version {before} and was interrupted"
    assert met.broken_off == []
    assert met.answers.keys() == {before}
    assert rollouts.live() == before
    assert rollouts.deployment(int(before))["status"]["readyReplicas"] == 1
    kept = rollouts.deployment(6)
    assert (kept["spec"]["replicas"], kept["metadata"]["labels"]["fineline.dev/state"]) == (0, "refused")


@pytest.fixture
def no_room(rollouts: Rollouts, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A quota that the existing pods use up."""

    def quota(pods: str) -> None:
        body = json.dumps({"spec": {"hard": {"pods": pods}}})
        kubectl("patch", "resourcequota", "fineline", "-n", rollouts.namespace, "--type=merge", "-p", body)

    def counted() -> str:
        """Count the pods, once those that ended are gone."""
        used: str = get("resourcequota", "fineline", rollouts.namespace)["status"]["used"]["pods"]
        living = [
            "get",
            "pods",
            "-n",
            rollouts.namespace,
            "-o",
            "name",
            "--field-selector=status.phase!=Succeeded,status.phase!=Failed",
        ]
        return used if int(used) == len(kubectl(*living).stdout.split()) else ""

    monkeypatch.setattr(cluster_place, "UNPLACED_SECONDS", 5)
    before = get("resourcequota", "fineline", rollouts.namespace)["spec"]["hard"]["pods"]
    quota(wait_for(counted, 60))
    yield
    quota(before)


def test_where_there_is_no_room_for_both_the_new_version_takes_the_old_ones_place(
    rollouts: Rollouts, second: Any, no_room: None
) -> None:
    before, model = rollouts.live(), rollouts.folder / "merged" / "version-6"
    with load(rollouts.url, NAME, clients=2, pause=0.5, max_tokens=4) as met:
        wait_for(lambda: met.answers[before], 60)
        rollouts.roll_out(6, model, rollouts.asked(model))
        wait_for(lambda: met.answers["6"] > 5, 60)
    print(f"in place after {rollouts.seconds:.1f} s, {len(met.failures)} requests found nobody there")
    told = rollouts.told
    assert told.strategy == "in-place"
    assert "exceeded quota" in told.why
    assert told.gate is not None
    assert (told.gate.alike, told.gate.old_seconds) == (1.0, [])
    assert told.watched is not None
    assert told.watched.failures == 0
    assert met.broken_off == []
    assert met.answers.keys() == {before, "6"}
    assert rollouts.live() == "6"
    kept = rollouts.deployment(int(before))
    assert (kept["spec"]["replicas"], kept["metadata"]["labels"]["fineline.dev/state"]) == (0, "previous")


def test_a_model_that_is_called_like_a_version_of_this_one_is_left_alone(
    rollouts: Rollouts, second: Any, neighbour: list[dict[str, Any]]
) -> None:
    for before in neighbour:
        now = get(before["kind"].lower(), before["metadata"]["name"], rollouts.namespace)
        assert (now["metadata"]["uid"], now["metadata"]["labels"]) == (
            before["metadata"]["uid"],
            before["metadata"]["labels"],
        )
        assert now["spec"] == before["spec"]


@pytest.mark.parametrize("kind", ["service", "deployment"])
def test_an_object_of_a_needed_name_that_belongs_to_nobody_of_ours_is_refused_and_left_as_it_is(
    rollouts: Rollouts, second: Any, kind: str
) -> None:
    model, space = rollouts.folder / "merged" / "version-1", rollouts.namespace
    digest = version_digest("alien", 1, "digest-1", rollouts.planned.model.digest)
    name = {"service": "alien", "deployment": of_version("alien", 1, digest)}[kind]
    create = {"service": ["service", "clusterip", name, "--tcp=80"], "deployment": ["deployment", name, "--image=none"]}
    kubectl("create", *create[kind], "-n", space)
    try:
        before = get(kind, name, space)
        with pytest.raises(ForeignObjectError, match=f"^{kind.capitalize()} {name} in namespace {space} belongs to"):
            rollouts.roll_out(1, model, [], name="alien")
        now = get(kind, name, space)
        assert (now["metadata"]["uid"], now["spec"]) == (before["metadata"]["uid"], before["spec"])
        assert rollouts.find("deployments,services,poddisruptionbudgets", 1, "alien") == []
    finally:
        kubectl("delete", kind, name, "-n", space)


def test_the_same_number_from_a_registry_that_begins_anew_passes_every_check_beside_the_live_version(
    rollouts: Rollouts, second: Any
) -> None:
    number = int(rollouts.live())
    live, model = rollouts.deployment(number), rollouts.model(8, seed=8)
    asked = rollouts.asked(model)
    broken = rollouts.folder / "merged" / "version-9"
    shutil.copytree(model, broken)
    shuffle(broken / "model.safetensors")
    rollouts.send(model)
    rollouts.send(broken)
    with load(rollouts.url, NAME, clients=2, pause=0.2, max_tokens=4) as met:
        with pytest.raises(RefusedError, match="answers match the evaluation's with a similarity of"):
            rollouts.roll_out(number, broken, asked, adapter="anew-and-broken")
        assert rollouts.has_traffic(live)
        now = get("deployment", live["metadata"]["name"], rollouts.namespace)
        assert (now["metadata"]["uid"], now["spec"]) == (live["metadata"]["uid"], live["spec"])
        assert now["status"]["readyReplicas"] == 1
        rollouts.roll_out(number, model, asked, adapter="anew", replicas=2)
        wait_for(lambda: not rollouts.has_traffic(live), 120)
    assert met.failures == []
    assert rollouts.told.gate is not None
    assert rollouts.told.old_version == number
    states = {one["metadata"]["labels"]["fineline.dev/state"] for one in rollouts.find("deployments", number)}
    assert states == {"live", "previous"}


def test_a_drained_node_takes_one_replica_at_a_time(rollouts: Rollouts, second: Any) -> None:
    """The replicas are those of the test before."""
    number = int(rollouts.live())
    (live,) = [one for one in rollouts.find("deployments", number) if rollouts.has_traffic(one)]
    (budget,) = [
        one
        for one in rollouts.find("poddisruptionbudgets", number)
        if one["metadata"]["name"] == live["metadata"]["name"]
    ]
    assert budget["metadata"]["ownerReferences"][0]["uid"] == live["metadata"]["uid"]
    assert live["status"]["readyReplicas"] == 2
    selector = ",".join(f"{key}={value}" for key, value in live["spec"]["selector"]["matchLabels"].items())
    command = ["get", "pods", "-n", rollouts.namespace, "-l", selector, "-o", "jsonpath={.items[*].metadata.name}"]
    first, other = kubectl(*command).stdout.split()
    with load(rollouts.url, NAME, clients=2, pause=0.2, max_tokens=4) as met:
        assert evicted(rollouts.namespace, first).returncode == 0
        refused = evicted(rollouts.namespace, other)
        assert "Cannot evict pod as it would violate the pod's disruption budget" in refused.stderr
        time.sleep(2)
    assert met.failures == []


def evicted(namespace: str, pod: str) -> subprocess.CompletedProcess[str]:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    return kubectl("create", "--raw", path, "-f", "-", document=eviction, check=False)


def test_what_0_1_0_serves_is_found_replaced_and_kept_to_go_back_to(
    rollouts: Rollouts, first: tuple[Path, list[LiveQuestion]], second: Any
) -> None:
    name, space, (model, asked) = "upgraded", rollouts.namespace, first
    recipe = rollouts.planned.recipe.model_copy(update={"name": name})
    resolved = rollouts.planned.model_copy(update={"recipe": recipe, "run": "run-1"})
    with rollouts.place(resolved, 1, model) as place:
        spec = place._spec
    for document in as_0_1_0_made(spec):
        kubectl("apply", "-n", space, "-f", "-", document=document)
    kubectl("rollout", "status", f"deployment/{name}-v1", "-n", space, "--timeout=180s")
    url = address(space, name)
    wait_until_answered(url)
    with load(url, name, clients=2, pause=0.2, max_tokens=4) as met:
        # Version 1 of a registry that began anew with the upgrade.
        other = rollouts.folder / "merged" / "version-2"
        rollouts.roll_out(1, other, rollouts.asked(other), name=name, adapter="digest-2")
        time.sleep(4)
    assert met.failures == []
    assert rollouts.told.old_version == 1
    assert rollouts.told.gate is not None
    kept, live = sorted(rollouts.find("deployments", 1, name), key=lambda one: rollouts.has_traffic(one, name))
    assert (kept["metadata"]["name"], kept["spec"]["replicas"]) == (f"{name}-v1", 0)
    assert kept["metadata"]["labels"]["fineline.dev/state"] == "previous"
    assert live["metadata"]["name"].startswith(f"{name}--v1-")
    rollouts.roll_out(1, model, asked, name=name, adapter="digest-1", back=True)
    names = {one["metadata"]["name"] for one in rollouts.find("deployments,services", 1, name)}
    assert f"{name}-v1" not in names
    assert live["metadata"]["name"] in names


def as_0_1_0_made(spec: VersionSpec) -> list[dict[str, Any]]:
    """Return the objects of a version as 0.1.0 named, labelled and selected them."""
    selector = {"fineline.dev/model": spec.name, "fineline.dev/version": str(spec.version)}
    labels = {"app.kubernetes.io/part-of": "fineline", "app.kubernetes.io/component": "server", **selector}
    made = deployment(spec)
    made["metadata"].update(name=f"{spec.name}-v{spec.version}", labels=labels)
    made["spec"]["selector"] = {"matchLabels": selector}
    made["spec"]["template"]["metadata"]["labels"] = {**labels, "fineline.dev/mounts": "volumes"}
    services = []
    for name in (spec.name, made["metadata"]["name"]):
        body = service(name, spec.name, spec.served)
        body["metadata"]["labels"], body["spec"]["selector"] = labels, selector
        services.append(body)
    return [made, *services]


def test_the_served_pod_is_locked_in(rollouts: Rollouts, second: Any) -> None:
    version = rollouts.live()
    (live,) = [one for one in rollouts.find("deployments", int(version)) if rollouts.has_traffic(one)]
    pod = ["exec", name_of(live), "-n", rollouts.namespace, "-c", "gateway", "--"]
    assert kubectl(*pod, "id", "-u").stdout.strip() == "1000"
    assert kubectl(*pod, "touch", "/usr/here", check=False).returncode == 1
    ip = json.loads(
        kubectl(
            "get",
            "pods",
            "-n",
            rollouts.namespace,
            "-o",
            "json",
            "-l",
            f"fineline.dev/model={NAME},app.kubernetes.io/version={version}",
        ).stdout
    )["items"][0]["status"]["podIP"]
    with pytest.raises(httpx2.TransportError):
        httpx2.get(f"http://{ip}:8000/health", timeout=5)
    assert httpx2.post(f"http://{ip}:8080/reset", timeout=5).status_code == 404
    assert httpx2.get(f"http://{ip}:8081/config_dump", timeout=5).status_code == 404
