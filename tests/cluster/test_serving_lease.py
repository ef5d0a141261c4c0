"""Whatever changes what serves under a name holds that model's Lease: rollouts and rollbacks that meet, stand still, or die."""

import json
import os
import random
import shutil
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recipes.reader import load as load_recipe
from steps.common.registry import tracking, versions, withdrawn
from steps.common.registry.allowed_registries import REGISTRIES_SETTING
from steps.common.runtime import cluster_settings
from steps.common.storage import volumes
from steps.rollout.pods.served_version import REGISTRY
from steps.rollout.pods.version_objects import TRIAL
from tests.conftest import write_chats
from tests.support.commands import tiny_recipe, wait_for
from tests.support.kubectl import ROOT, get, kubectl
from tests.support.load import load
from tests.support.rollout_process import RolloutProcess
from tests.support.steps import Account
from tests.support.versions import make_version

pytestmark = pytest.mark.slow

SPACE = "fineline-chaos"
# The second model's name is what 0.1.0 called version 2 of the first.
NAMES = ("chaos", "chaos-v2")
KILLS = int(os.environ.get("FINELINE_TEST_KILLS", "4"))
SECONDS = {"rollout": 45.0, "rollback": 20.0}  # about as long as each takes


@dataclass
class Served:
    """Two models with two versions each, whose rollouts are processes on this machine."""

    folder: Path
    settings: dict[str, str]

    def begin(self, what: str, name: str = "", version: int | str = "") -> RolloutProcess:
        return RolloutProcess(self.folder / f"{uuid.uuid4().hex[:8]}.log", self.settings, what, name, str(version))

    def run(self, what: str, name: str = "", version: int | str = "", code: int = 0) -> str:
        process = self.begin(what, name, version)
        assert process.wait(300) == code, process.log
        return process.log

    @property
    def store(self) -> Any:
        return tracking.client(self.settings["MLFLOW_TRACKING_URI"])

    def champion(self, name: str) -> int:
        found = versions.version_at(self.store, name, versions.CHAMPION)
        return int(found.version) if found else 0

    def live(self, name: str) -> int:
        """Return the version whose pods the Service that users talk to selects; 0 if there is none."""
        selects = get("service", name, SPACE)["spec"]["selector"]
        found = self.deployments(name).items()
        return next((version for version, one in found if one["spec"]["selector"]["matchLabels"] == selects), 0)

    def on_trial(self, name: str) -> bool:
        return TRIAL in get("service", name, SPACE)["metadata"].get("annotations", {})

    def deployments(self, name: str) -> dict[int, dict[str, Any]]:
        found = kubectl("get", "deployments", "-n", SPACE, "-l", f"fineline.dev/model={name}", "-o", "json").stdout
        return {int(one["metadata"]["labels"]["fineline.dev/version"]): one for one in json.loads(found)["items"]}

    def url(self, name: str) -> str:
        return f"http://{get('service', name, SPACE)['spec']['clusterIP']}/v1"

    def reset(self, name: str) -> None:
        """Serve version 1, with version 2 as a candidate that nobody has withdrawn."""
        self.run("rollback", name, 1)
        withdrawn.readmit(self.store, name, 2)

    def settled(self, name: str) -> None:
        """Check that alias and traffic agree, that the version has pods, and that nothing is left over."""
        champion, found = self.champion(name), self.deployments(name)
        assert self.live(name) == champion
        assert not self.on_trial(name)
        assert found.keys() <= {1, 2}
        for version, one in found.items():
            state = one["metadata"]["labels"].get("fineline.dev/state", "")
            assert version == champion or state in ("previous", "refused"), (version, state)
            assert version == champion or state == "refused" or not one["spec"]["replicas"], (version, state)
        assert found[champion]["status"]["readyReplicas"] == 1


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Served]:
    kubectl("delete", "namespace", SPACE, "--ignore-not-found")
    kubectl("create", "namespace", SPACE)
    for part in ("accounts", "volumes"):
        kubectl("apply", "-n", SPACE, "-f", str(ROOT / "argo" / "base" / f"{part}.yaml"))
    folder = tmp_path_factory.mktemp("chaos")
    account = Account(folder, SPACE, "fineline-rollout", {})
    settings = {
        volumes.RUNS_SETTING: str(folder / "runs"),
        volumes.WEIGHTS_SETTING: str(folder / "weights"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'runs' / 'mlflow.db'}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for key, value in settings.items():
            patch.setenv(key, value)
        chats = write_chats(folder / "chats.jsonl")
        for name in NAMES:
            recipe = tiny_recipe(folder, tiny_model, chats, epochs=2)
            limits = {"serve.enabled": "true", "serve.answers_alike": "0", "serve.watch_seconds": "20"}
            limits["serve.watch_latency_factor"] = "1000"  # the machine is loaded now more, now less
            limits |= {"name": name, "serve.answer_seconds": "20", "gate.worse_than_champion": "9"}
            assert make_version(load_recipe(recipe, limits).model_dump_json(), f"{name}-first") == 1
            versions.make_champion(tracking.client(settings["MLFLOW_TRACKING_URI"]), name, 1)
            assert make_version(load_recipe(recipe, {**limits, "tune.epochs": "3"}).model_dump_json(), name) == 2
    as_rollout = {
        "KUBECONFIG": str(account.kubeconfig),
        "FINELINE_API_KEY_DEFAULT": "none",
        cluster_settings.SERVE_IMAGE_SETTING: "fineline-serve:0.1.0",
    }
    made = Served(folder, {**settings, **as_rollout})
    for name in NAMES:
        made.run("rollout", name, 1)
    yield made
    kubectl("delete", "pods", "-n", SPACE, "--all", "--grace-period=1", "--wait=false")
    kubectl("delete", "namespace", SPACE, "--timeout=180s")


def test_two_rollouts_at_once_take_turns_and_leave_pods_behind_the_service(served: Served) -> None:
    name = NAMES[0]
    served.reset(name)
    with load(served.url(name), name, clients=2, pause=0.1, max_tokens=4) as met:
        both = [served.begin("rollout", name, version) for version in (2, 2)]
        codes = [one.wait(300) for one in both]
    told = [one.log for one in both]
    assert codes == [0, 0], told
    assert any("waiting for another rollout" in one for one in told)
    assert met.broken_off == []
    assert served.champion(name) == 2
    served.settled(name)


def test_a_candidate_that_was_judged_against_another_champion_is_refused(served: Served) -> None:
    name = NAMES[0]
    served.reset(name)
    served.run("rollout", name, 2)
    told = served.run("rollout", name, 1, code=3)
    assert "the candidate was judged against no champion, and the champion is now version 2" in told
    assert served.live(name) == 2


def test_a_rollback_takes_over_within_seconds_and_the_version_is_withdrawn(served: Served) -> None:
    name = NAMES[0]
    served.reset(name)
    with load(served.url(name), name, clients=2, pause=0.1, max_tokens=4) as met:
        rollout = served.begin("rollout", name, 2)
        wait_for(lambda: served.live(name) == 2, 120)
        begun = time.monotonic()
        told = served.run("rollback", name)
        assert "version 2 is being rolled out: back to the champion, version 1" in told
        print(f"back after {time.monotonic() - begun:.1f} s")
        code = rollout.wait(60)
    err = rollout.log
    assert code == 3, err
    assert f"error: a rollback of {name} to version 1 took over" in err
    assert met.broken_off == []
    served.settled(name)
    assert served.live(name) == 1
    found = withdrawn.withdrawal(served.store.get_model_version(name, "2"))
    assert found is not None
    assert (found.by, found.why) == ("a test", "rolled back to version 1")
    told = served.run("rollout", name, 2, code=3)
    assert "version 2 was withdrawn by a test on" in told


def test_a_rollout_that_wakes_up_after_it_has_lost_its_right_changes_nothing(served: Served) -> None:
    name = NAMES[0]
    served.reset(name)
    rollout = served.begin("rollout", name, 2)
    wait_for(lambda: 2 in served.deployments(name), 120)
    rollout.signal(signal.SIGSTOP)
    served.run("rollback", name, 1)
    before = {version: one["metadata"]["resourceVersion"] for version, one in served.deployments(name).items()}
    rollout.signal(signal.SIGCONT)
    assert rollout.wait(120) == 3, rollout.log
    after = {version: one["metadata"]["resourceVersion"] for version, one in served.deployments(name).items()}
    assert before == after
    served.settled(name)


def test_the_registry_of_the_version_on_trial_says_whether_it_is_champion(served: Served) -> None:
    name = NAMES[0]
    served.reset(name)
    served.run("rollout", name, 2)
    other = served.folder / "other.db"
    shutil.copyfile(served.folder / "runs" / "mlflow.db", other)
    versions.make_champion(
        served.store, name, 1
    )  # in the installation's own registry, for a model that has the same name
    found = served.deployments(name)
    kubectl("annotate", "deployment", found[2]["metadata"]["name"], "-n", SPACE, f"{REGISTRY}=sqlite:///{other}")
    # As a rollout has written it, so that an apply of this field manager without the annotation removes it.
    trial = get("service", name, SPACE)
    trial["metadata"] = {
        **{key: trial["metadata"][key] for key in ("name", "namespace", "labels")},
        "annotations": {**trial["metadata"]["annotations"], TRIAL: found[1]["metadata"]["name"]},
    }
    as_a_rollout = ["--server-side", "--field-manager=fineline", "--force-conflicts"]
    kubectl("apply", *as_a_rollout, "-f", "-", document=trial)
    served.settings[REGISTRIES_SETTING] = f"sqlite:///{other}"
    told = served.run("recovery")
    assert f"{name} version 2 has the traffic" in told
    assert (served.live(name), served.on_trial(name)) == (2, False)
    kubectl("annotate", "deployment", found[2]["metadata"]["name"], "-n", SPACE, f"{REGISTRY}-")
    versions.make_champion(served.store, name, 2)


def test_a_service_of_somebody_else_does_not_keep_other_models_from_being_recovered(served: Served) -> None:
    name, other = sorted(NAMES)
    served.reset(other)
    live = get("service", other, SPACE)["spec"]["selector"]
    kubectl("label", "service", name, "-n", SPACE, "fineline.dev/model=foreign", "--overwrite")
    try:
        rollout = served.begin("rollout", other, 2)
        wait_for(lambda: served.on_trial(other), 120)
        rollout.signal(signal.SIGKILL)
        rollout.wait(60)
        told = served.run("recovery", code=2)
    finally:
        kubectl("label", "service", name, "-n", SPACE, f"fineline.dev/model={name}", "--overwrite")
    assert f"error: {name}: Service {name} in namespace {SPACE} belongs to somebody else" in told
    assert get("service", other, SPACE)["spec"]["selector"] == live
    served.settled(other)


@pytest.mark.parametrize("seed", range(KILLS))
def test_whatever_dies_at_any_moment_alias_and_traffic_agree_in_the_end(served: Served, seed: int) -> None:
    """A rollout or a rollback of one of the two models is killed, while both are under load."""
    chance = random.Random(seed)
    name = NAMES[seed % 2]
    what, version = (("rollout", 2), ("rollback", 1))[seed // 2 % 2]
    if what == "rollout":
        served.reset(name)
    elif served.champion(name) == 1:
        withdrawn.readmit(served.store, name, 2)
        served.run("rollout", name, 2)
    loads = [load(served.url(one), one, clients=2, pause=0.1, max_tokens=4) for one in NAMES]
    with loads[0] as first, loads[1] as second:
        process = served.begin(what, name, version)
        moment = chance.uniform(0, SECONDS[what])
        if process.wait(moment) is None:
            process.signal(signal.SIGKILL)
        code = process.wait(60)
        told = served.run("recovery").strip()
    print(f"{what} of {name}, killed after {moment:.1f} s (code {code}): {told.splitlines()[-1]}")
    assert first.broken_off == []
    assert second.broken_off == []
    for one in NAMES:
        served.settled(one)
