"""The order of a rollout on one machine, with model servers that fail on purpose behind the real gateway."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from recipes.reader import load as load_recipe
from steps.common.handover.resolved import Resolved
from steps.common.machine import servers
from steps.common.runtime.errors import RefusedError
from steps.common.storage import volumes
from steps.plan.step import PlanInput, resolve
from steps.rollout import order
from steps.rollout.lease import machine_lease
from steps.rollout.lease.right import Purpose
from steps.rollout.lease.serving_lease import serving_lease
from steps.rollout.order import RolloutRecord, roll_out
from steps.rollout.places import gateway_port, machine_place, processes
from steps.rollout.places.machine_place import MachinePlace
from steps.rollout.trial.live_gate import LiveQuestion
from tests.conftest import write_chats
from tests.support.commands import free_port, wait_for
from tests.support.load import Load, load
from tests.support.model_server import BEHAVIOUR

SERVER = Path(__file__).parents[2] / "support" / "model_server.py"
GOOD = "we are open on monday and happy to see you"
ASKED = [LiveQuestion([{"role": "user", "content": f"question {number}"}], GOOD) for number in range(4)]
ASKED_BEFORE_TRAFFIC = 1 + len(ASKED)


class Store:
    """One model on this machine, and its versions."""

    def __init__(self, folder: Path, planned: Resolved) -> None:
        self.folder, self.planned = folder, planned
        self.record = RolloutRecord(version=0, old_version=None)
        self.champion = 0

    @property
    def name(self) -> str:
        return self.planned.recipe.name

    @property
    def url(self) -> str:
        if port := self.planned.recipe.serve.port:
            return servers.base_url("127.0.0.1", port)
        running = servers.gateway(self.name)
        assert running is not None
        return running.url

    def another(self, name: str, port: int | None) -> "Store":
        """Return another model on this machine, with a recipe that is otherwise the same."""
        serve = self.planned.recipe.serve.model_copy(update={"port": port})
        recipe = self.planned.recipe.model_copy(update={"name": name, "serve": serve})
        folder = self.folder / name
        folder.mkdir()
        return Store(folder, self.planned.model_copy(update={"recipe": recipe}))

    def roll_out(
        self,
        version: int,
        *,
        back: bool = False,
        serve: dict[str, Any] | None = None,
        registry: str = "digest",
        **behaviour: Any,
    ) -> None:
        """Roll out a version with that behaviour, which by default answers as the evaluation did."""
        model = self.folder / f"{registry}-model-{version}"
        model.mkdir(exist_ok=True)
        (model / BEHAVIOUR).write_text(json.dumps({"says": GOOD, **behaviour}))
        recipe = self.planned.recipe
        changed = recipe.model_copy(update={"serve": recipe.serve.model_copy(update=serve or {})})
        resolved = self.planned.model_copy(update={"recipe": changed, "run": f"run-{version}"})
        self.record = RolloutRecord(version=version, old_version=None)
        purpose = Purpose.ROLLBACK if back else Purpose.ROLLOUT
        with serving_lease(self.name, purpose, version, lambda: 0) as lease:
            place = MachinePlace(resolved, version, model, 1000, f"{registry}-{version}", self.champion, lease)
            if not place.serves_already():
                decide = partial(self.make_champion, version)
                roll_out(place, resolved, self.record, ASKED, back=back, make_champion=decide)

    def make_champion(self, version: int) -> None:
        self.champion = version

    def serves(self) -> int:
        """Return the version that answers at the users' address."""
        answer = httpx2.post(f"{self.url}/chat/completions", json={"model": self.name, "messages": []}, timeout=30)
        assert answer.status_code == 200
        return int(answer.headers["fineline-version"])


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Resolved:
    folder = tmp_path_factory.mktemp("planned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(volumes.RUNS_SETTING, str(folder))
        changes = {"name": "tiny", "model": tiny_model.as_uri(), "data.train": str(write_chats(folder / "chats.jsonl"))}
        limits = {"serve.port": str(free_port()), "serve.watch_seconds": "2", "serve.ready_seconds": "20"}
        recipe = load_recipe("pet-store", {**changes, **limits, "data.validation": "", "data.max_tokens": "64"})
        return resolve(PlanInput(recipe=json.dumps(recipe.model_dump(mode="json"))))


@pytest.fixture
def store(tmp_path: Path, planned: Resolved, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    def command(name: str, port: int) -> list[str]:
        return [sys.executable, str(SERVER), name, str(port)]

    monkeypatch.setattr(processes, "server_command", command)
    monkeypatch.setenv("PYTHONPATH", str(SERVER.parents[1]))
    serve = planned.recipe.serve.model_copy(update={"port": free_port()})
    recipe = planned.recipe.model_copy(update={"serve": serve})
    yield Store(tmp_path, planned.model_copy(update={"recipe": recipe}))
    for name in servers.names():
        servers.stop(name)


def refused(store: Store, version: int, **behaviour: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        store.roll_out(version, **behaviour)
    assert "\n" not in str(caught.value)
    assert store.record.refused == str(caught.value)
    return str(caught.value)


def checked(met: Load, versions: set[str]) -> None:
    assert met.failures == []
    assert set(met.answers) == versions


def test_a_good_second_version_takes_over_under_load_and_no_request_fails(store: Store) -> None:
    store.roll_out(1)
    before = servers.server("tiny")
    with load(store.url, "tiny") as met:
        time.sleep(0.5)
        store.roll_out(2)
        time.sleep(0.5)
    checked(met, {"1", "2"})
    assert store.serves() == 2
    assert before is not None
    assert not before.process.alive()
    record = store.record
    assert (record.strategy, record.old_version, record.refused) == ("blue-green", 1, "")
    assert record.gate is not None
    assert (record.gate.alike, [one.old for one in record.gate.asked]) == (1.0, [GOOD] * len(ASKED))
    assert record.watched is not None
    assert record.watched.failures == 0
    assert record.watched.answers > record.watched.probes > 0


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (
            {"says": "purple monkey dishwasher is what comes out of other weights"},
            "its answers match the evaluation's with a similarity of 0.",
        ),
        ({"cannot_start": True}, "the model server ended while starting: this model cannot be loaded"),
        ({"starts_after": 60, "serve": {"ready_seconds": 2}}, "the model server was not ready in 2 s"),
        ({"fails": True}, "the new server fails on 'question 0'"),
        ({"dies": True, "after": 2}, "it fails on 'question 1'"),
        ({"slow": 1.0, "after": 1}, "more than serve.watch_latency_factor"),
    ],
)
def test_a_version_that_is_broken_when_served_gets_no_traffic(
    store: Store, behaviour: dict[str, Any], reason: str
) -> None:
    store.roll_out(1)
    before = servers.server("tiny")
    with load(store.url, "tiny") as met:
        assert reason in refused(store, 2, **behaviour)
        time.sleep(0.2)
    checked(met, {"1"})
    assert servers.server("tiny") == before
    assert store.serves() == 1


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"dies": True}, "answers failed in the"),
        ({"fails": True}, "answers failed in the"),
        ({"slow": 1.0}, "more than serve.watch_latency_factor"),
    ],
)
def test_a_version_that_breaks_under_traffic_loses_it_again(
    store: Store, behaviour: dict[str, Any], reason: str
) -> None:
    store.roll_out(1)
    before = servers.server("tiny")
    assert reason in refused(store, 2, after=ASKED_BEFORE_TRAFFIC + 1, **behaviour)
    assert store.record.gate is not None
    assert store.record.gate.passed
    assert servers.server("tiny") == before
    assert store.serves() == 1
    with load(store.url, "tiny") as met:
        time.sleep(0.5)
    checked(met, {"1"})


def test_log_command_and_reason_of_a_refused_version_are_kept_until_the_next_rollout(store: Store) -> None:
    store.roll_out(1)
    reason = refused(store, 2, cannot_start=True)
    kept = servers.refused("tiny")
    assert kept is not None
    assert (kept.version, kept.reason) == (2, reason)
    assert "model_server.py tiny" in Path(kept.folder, "command.txt").read_text()
    assert "cannot be loaded" in Path(kept.folder, "server.log").read_text()
    refused(store, 3, fails=True)
    assert not Path(kept.folder).exists()
    store.roll_out(4)
    assert servers.refused("tiny") is None


def test_a_refused_first_version_leaves_nothing_that_listens(store: Store) -> None:
    refused(store, 1, says="something else altogether")
    assert servers.gateway("tiny") is None
    with pytest.raises(httpx2.TransportError):
        store.serves()


def test_in_place_the_old_server_ends_first_and_comes_back_when_the_new_one_is_refused(store: Store) -> None:
    store.roll_out(1)
    before = servers.server("tiny")
    assert "similarity" in refused(store, 2, says="something else altogether", serve={"strategy": "in-place"})
    assert (store.record.strategy, store.record.why) == ("in-place", "set by serve.strategy")
    after = servers.server("tiny")
    assert before is not None
    assert after is not None
    assert (after.version, store.serves()) == (1, 1)
    assert after.process != before.process
    store.roll_out(3, serve={"strategy": "in-place"})
    assert store.serves() == 3


def killed_in(place: Any, name: str, monkeypatch: pytest.MonkeyPatch, rollout: Callable[[], None]) -> None:
    """Run a rollout in a process of its own that exits, as if killed, when it calls a function."""
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(place, name, lambda *_: os._exit(9))
        rollout()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_an_old_server_that_a_killed_rollout_has_stopped_comes_back_where_the_next_one_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.roll_out(1)
    killed_in(MachinePlace, "start", monkeypatch, lambda: store.roll_out(2, serve={"strategy": "in-place"}))
    assert servers.server("tiny") is None
    refused(store, 2, fails=True)
    assert store.serves() == 1


def test_in_place_an_old_server_that_does_not_come_back_is_reported_with_the_reason(store: Store) -> None:
    store.roll_out(1)
    (store.folder / "digest-model-1" / BEHAVIOUR).write_text(json.dumps({"cannot_start": True}))
    reason = refused(store, 2, fails=True, serve={"strategy": "in-place"})
    assert reason.startswith("the new server fails on 'question 0'")
    assert "; and the model server ended while starting" in reason
    kept = servers.refused("tiny")
    assert kept is not None
    assert (kept.version, kept.reason) == (2, reason)


def test_a_rollout_is_in_place_if_both_do_not_fit_into_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.roll_out(1)
    monkeypatch.setattr(machine_place, "memory_available", lambda: 1 << 29)
    store.roll_out(2)
    assert store.record.strategy == "in-place"
    assert store.record.why == "0.5 GiB are free, and the new server needs 1.0"
    assert store.serves() == 2


def test_a_rollback_to_a_version_that_still_runs_needs_no_start(store: Store) -> None:
    running = {"keep_previous": "running"}
    store.roll_out(1, serve=running)
    first = servers.server("tiny")
    store.roll_out(2, serve=running)
    assert first is not None
    assert first.process.alive()
    with load(store.url, "tiny") as met:
        store.roll_out(1, back=True, serve=running)
        time.sleep(0.2)
    checked(met, {"1", "2"})
    now = servers.server("tiny")
    assert now is not None
    assert now.process == first.process
    assert servers.previous("tiny") is not None
    store.roll_out(3)
    assert not first.process.alive()
    assert servers.previous("tiny") is None


def test_version_1_of_a_registry_that_begins_anew_passes_every_check_beside_the_live_version_1(store: Store) -> None:
    store.roll_out(1)
    live = servers.server("tiny")
    assert live is not None
    with load(store.url, "tiny") as met:
        refused(store, 1, registry="anew", says="nothing of what was evaluated")
    checked(met, {"1"})
    assert live.process.alive()
    assert servers.server("tiny") == live
    kept = servers.refused("tiny")
    assert kept is not None
    assert Path(kept.folder).is_dir()
    with load(store.url, "tiny") as met:
        store.roll_out(1, registry="again")
    checked(met, {"1"})
    now = servers.server("tiny")
    assert now is not None
    assert (now.version, now.adapter_sha256) == (1, "again-1")
    assert store.record.gate is not None
    assert not live.process.alive()
    assert not Path(kept.folder).exists()


def test_the_same_adapter_under_another_number_is_served_without_a_restart(store: Store) -> None:
    store.roll_out(7)
    before = servers.server("tiny")
    assert before is not None
    servers.remember(before.model_copy(update={"adapter_sha256": "digest-1"}))
    store.roll_out(1)
    now = servers.server("tiny")
    assert now is not None
    assert (now.version, now.process) == (1, before.process)
    assert store.serves() == 1


def test_after_a_rollout_was_killed_past_the_switch_the_next_starts_from_the_old_version(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.roll_out(1)
    killed_in(order, "watch", monkeypatch, lambda: store.roll_out(2))
    assert store.serves() == 2
    refused(store, 3, fails=True)
    assert store.serves() == 1
    store.roll_out(2)
    assert store.serves() == 2
    assert store.record.old_version == 1


def test_new_limits_of_the_version_that_serves_take_effect_at_once(store: Store) -> None:
    store.roll_out(1)
    server = servers.server("tiny")
    with load(store.url, "tiny") as met:
        store.roll_out(1, serve={"max_request_mib": 0.001})
        time.sleep(0.3)
    checked(met, {"1"})
    assert servers.server("tiny") == server
    large = {"model": "tiny", "messages": [{"role": "user", "content": "x" * 5000}]}
    assert httpx2.post(f"{store.url}/chat/completions", json=large, timeout=30).status_code == 413


def test_another_address_gets_another_gateway(store: Store) -> None:
    store.roll_out(1)
    before, port = servers.gateway("tiny"), free_port()
    store.roll_out(2, serve={"port": port})
    after = servers.gateway("tiny")
    assert before is not None
    assert after is not None
    assert not before.process.alive()
    assert httpx2.get(f"{after.url}/models").headers["fineline-version"] == "2"
    assert after.process.port == port


def listens_at(name: str) -> int:
    running = servers.gateway(name)
    assert running is not None
    return running.process.port


def test_two_models_without_a_port_in_their_recipes_are_served_at_once_and_keep_their_ports(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = free_port()
    monkeypatch.setattr(gateway_port, "FIRST_PORT", first)
    tiny, desk = store.another("tiny", None), store.another("desk", None)
    tiny.roll_out(1)
    assert listens_at("tiny") == first
    desk.roll_out(7)
    taken = listens_at("desk")
    assert taken > first
    assert f"port {first} is in use; desk is served on port {taken}" in capsys.readouterr().err
    assert (tiny.serves(), desk.serves()) == (1, 7)
    desk.roll_out(8)  # a running gateway keeps its port
    assert (listens_at("desk"), desk.serves()) == (taken, 8)
    servers.stop("tiny")
    servers.stop("desk")
    desk.roll_out(8)  # a stopped one gets its port again, although an earlier one is free
    assert listens_at("desk") == taken
    tiny.roll_out(1)
    assert listens_at("tiny") == first


def test_two_rollouts_at_once_do_not_choose_the_same_port(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_port()
    monkeypatch.setattr(gateway_port, "FIRST_PORT", first)
    names = ["tiny", "desk"]
    ports: dict[str, int] = {}
    listening: list[socket.socket] = []

    def choose(name: str) -> None:
        with gateway_port.gateway_port(name, "127.0.0.1", None) as port:
            time.sleep(0.2)  # like a gateway that takes some time to listen
            ports[name] = port
            listening.append(socket.create_server(("127.0.0.1", port)))

    with ThreadPoolExecutor() as pool:
        list(pool.map(choose, names))
    for gateway in listening:
        gateway.close()
    assert ports.keys() == set(names)
    assert len(set(ports.values())) == len(names)


def in_another_process(rollout: Callable[[], None]) -> int:
    """Start a rollout in a process of its own, which ends with 3 if it is refused; return its pid."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            rollout()
            code = 0
        except RefusedError as error:
            print(error, file=sys.stderr, flush=True)
            code = 3
        finally:
            os._exit(code)
    return child


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def model_servers(store: Store) -> set[int]:
    """Return the processes of this model's servers."""
    return {process.pid for process in servers.started(store.name, but=Path())}


def test_two_rollouts_at_once_take_turns_and_one_of_them_serves(store: Store) -> None:
    store.roll_out(1)
    with load(store.url, "tiny") as met:
        children = [in_another_process(lambda v=version: store.roll_out(v)) for version in (2, 3)]  # type: ignore[misc]
        assert [exit_code(child) for child in children] == [0, 0]
        time.sleep(0.2)
    assert met.failures == []
    live = servers.server("tiny")
    assert live is not None
    assert store.serves() == live.version
    assert model_servers(store) == {live.process.pid}


def on_trial(store: Store) -> bool:
    return (volumes.serving(store.name) / servers.TRIAL).exists()


def test_a_rollback_takes_over_from_a_rollout_which_ends_without_touching_anything_more(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    store.roll_out(1)
    store.champion = 1
    watched = {"watch_seconds": 600}
    with load(store.url, "tiny") as met:
        rollout = in_another_process(lambda: store.roll_out(2, serve=watched))
        wait_for(lambda: on_trial(store), 60)
        time.sleep(1)
        began = time.monotonic()
        store.roll_out(1, back=True)
        seconds = time.monotonic() - began
        assert exit_code(rollout) == 3
        time.sleep(0.2)
    assert "a rollback of tiny to version 1 took over" in capfd.readouterr().err
    assert seconds < 15
    assert met.failures == []
    live = servers.server("tiny")
    assert live is not None
    assert (live.version, store.serves()) == (1, 1)
    assert model_servers(store) == {live.process.pid}
    assert not on_trial(store)


def test_a_rollout_that_hangs_does_not_keep_a_rollback_waiting(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_lease, "STOP_SECONDS", 1.0)
    store.roll_out(1)
    store.champion = 1
    rollout = in_another_process(lambda: store.roll_out(2, serve={"watch_seconds": 600}))
    wait_for(lambda: on_trial(store), 60)
    os.kill(rollout, signal.SIGSTOP)
    store.roll_out(1, back=True)
    assert exit_code(rollout) == -signal.SIGKILL
    assert store.serves() == 1


def test_a_rollout_that_was_killed_after_its_version_became_champion_keeps_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.roll_out(1)
    killed_in(MachinePlace, "finish", monkeypatch, lambda: store.roll_out(2))
    store.champion = 2  # as the registry has it by then
    refused(store, 3, fails=True)
    assert store.serves() == 2
    live = servers.server("tiny")
    assert live is not None
    assert model_servers(store) == {live.process.pid}
