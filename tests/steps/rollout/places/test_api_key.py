"""A model that is served with an API key on this machine is not served without one by the next rollout."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from recipes.reader import load
from steps.common.handover.resolved import Resolved
from steps.common.machine import servers
from steps.common.runtime.errors import UserError
from steps.plan.step import PlanInput, resolve
from steps.rollout.gateway.upstream import Rules, Upstream
from steps.rollout.lease.right import Purpose, ServingLease
from steps.rollout.lease.serving_lease import serving_lease
from steps.rollout.places.machine_place import MachinePlace
from tests.steps.rollout.gateway.test_gateway import Gate, gates
from tests.support.commands import wait_for

RULES = Rules(name="store", host="127.0.0.1", port=1, answer_seconds=1, request_bytes=1)
UPSTREAM = Upstream(port=2, version=1, run="r", base="b", adapter_sha256="a")


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Gate]:
    yield from gates(tmp_path / "runs", "right")


@pytest.fixture
def planned(tiny_model: Path, chats: Path) -> Resolved:
    recipe = load("pet-store", {"model": tiny_model.as_uri(), "data.train": str(chats), "data.validation": ""})
    return resolve(PlanInput(recipe=recipe.model_dump_json()))


def place(planned: Resolved, folder: Path, **serve: str) -> MachinePlace:
    with serving_lease("store", Purpose.ROLLBACK, 2, lambda: 0) as lease:
        return _place(planned, folder, lease, **serve)


def _place(planned: Resolved, folder: Path, lease: ServingLease, **serve: str) -> MachinePlace:
    (folder / "model.safetensors").write_bytes(b"weights")
    recipe = load("pet-store", {"name": "store", **{f"serve.{key}": value for key, value in serve.items()}})
    return MachinePlace(planned.model_copy(update={"recipe": recipe}), 2, folder, 7, "digest", 0, lease)


def test_a_rollback_without_the_key_in_its_environment_is_refused(
    keyed: Gate, planned: Resolved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINELINE_API_KEY", "")
    with pytest.raises(
        UserError, match=r"requires an API key \(the version that serves has one\), and FINELINE_API_KEY"
    ):
        place(planned, tmp_path)
    place(planned, tmp_path, api_key="none")
    monkeypatch.setenv("FINELINE_API_KEY", "other\n")
    place(planned, tmp_path)
    assert httpx2.get(f"{keyed.url}/v1/models").status_code == 401


def started(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Start the gateway of a pod, which ends at once."""
    command = [sys.executable, "-m", "steps.rollout.gateway", str(folder / "gateway")]
    command += [RULES.model_dump_json(), UPSTREAM.model_dump_json()]
    environment = {**os.environ, **settings}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("previous", ["", "old"])
def test_a_gateway_whose_secret_is_empty_does_not_start(tmp_path: Path, previous: str) -> None:
    done = started(tmp_path, FINELINE_API_KEY="\n", FINELINE_API_KEY_PREVIOUS=previous)
    assert done.returncode == 1
    assert done.stderr == "error: the Secret with the API key is empty; requests without a key are not served\n"


def test_a_previous_key_with_a_line_break_is_refused_unquoted(tmp_path: Path) -> None:
    done = started(tmp_path, FINELINE_API_KEY="new", FINELINE_API_KEY_PREVIOUS="ol\nd")
    assert done.returncode == 1
    assert done.stderr == (
        "error: FINELINE_API_KEY_PREVIOUS: has a line break or another control character inside; set it again (in a "
        "cluster: the Secret NAME-api-key, key previous)\n"
    )


def test_a_rollback_to_the_version_that_serves_takes_the_keys_of_a_rotation(
    keyed: Gate, planned: Resolved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def status(key: str) -> int:
        return httpx2.get(f"{keyed.url}/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code

    def rotate(key: str, previous: str) -> None:
        monkeypatch.setenv("FINELINE_API_KEY", key)
        monkeypatch.setenv("FINELINE_API_KEY_PREVIOUS", previous)
        monkeypatch.setattr(MachinePlace, "_is_candidate", lambda *_: True)
        with serving_lease("store", Purpose.ROLLBACK, 2, lambda: 0) as lease:
            assert _place(planned, tmp_path, lease).serves_already()

    here = psutil.Process()
    process = servers.Process(pid=here.pid, started=here.create_time(), port=keyed.first.port)
    upstream = keyed.first.upstream
    servers.remember(
        servers.Server(
            name="store",
            version=upstream.version,
            run=upstream.run,
            base=upstream.base,
            base_digest="base",
            adapter_sha256=upstream.adapter_sha256,
            folder=str(tmp_path),
            process=process,
        )
    )
    rotate("new", "right")
    wait_for(lambda: status("new") == 200, 120)
    assert (status("right"), status("other")) == (200, 401)
    rotate("new", "")
    wait_for(lambda: status("right") == 401, 120)
    assert status("new") == 200
