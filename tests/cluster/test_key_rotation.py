"""An API key is changed as docs/cluster.md says, under load: no request is lost, and the old key is refused at the end."""

import os
import subprocess
import time
from collections.abc import Iterator

import httpx2
import pytest

from steps.rollout.checks.server_needs import LEAVE_SECONDS
from tests.cluster.test_rollout import NAME, Rollouts, _settings, rollouts
from tests.docs.documents import ROOT, blocks
from tests.support.commands import wait_for
from tests.support.kubectl import BUILT, kubectl
from tests.support.load import load

__all__ = ["_settings", "rollouts"]  # fixtures: the installed namespace, and the settings of a rollout in it

SECRET = "fineline-api-key"
ENDED_SECONDS = 120


@pytest.fixture
def secret(rollouts: Rollouts) -> Iterator[None]:
    kubectl("create", "secret", "generic", SECRET, "-n", rollouts.namespace, "--from-literal=key=old")
    yield
    kubectl("delete", "secret", SECRET, "-n", rollouts.namespace)


def documented(namespace: str) -> tuple[list[str], list[str]]:
    """Return the commands that accept a second key, and those that drop the old one."""
    about_keys = [block.text for block in blocks("sh") if block.file == ROOT / "docs" / "cluster.md"]
    accept, drop = [text for text in about_keys if SECRET in text and "rollout restart" in text]
    filled = [text.replace("-n fineline", f"-n {namespace}") for text in (accept, drop)]
    first, second = (text.replace("NEW", "new").replace("OLD", "old").splitlines() for text in filled)
    return first, second


def shell(command: str) -> None:
    path = f"{os.environ['PATH']}{os.pathsep}{BUILT.parent}"
    done = subprocess.run(
        ["bash", "-c", command], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def status(url: str, key: str) -> int:
    return httpx2.get(f"{url}/models", headers=bearer(key), timeout=10).status_code


def only_new_pods(namespace: str) -> bool:
    pods = ["get", "pods", "-n", namespace, "-l", f"fineline.dev/model={NAME}", "-o", "name"]
    return len(kubectl(*pods).stdout.split()) == 1


def test_a_key_is_changed_under_load_and_a_rollout_in_between_goes_on(
    rollouts: Rollouts, secret: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = rollouts.namespace
    (add, *restart), (remove, *restart_again) = documented(space)
    models = [rollouts.model(version, seed=version) for version in (1, 2)]
    for model in models:
        rollouts.send(model)
    asked = [rollouts.asked(model) for model in models]
    monkeypatch.setenv("FINELINE_API_KEY", "old")
    rollouts.roll_out(1, models[0], asked[0])
    url, sent = rollouts.url, bearer("old")
    assert [status(url, key) for key in ("old", "new")] == [200, 401]
    with load(url, NAME, headers=sent, max_tokens=4) as met:
        shell(add)
        # A rollout that begins now asks with the new key, which the old version's pod does not know yet.
        monkeypatch.setenv("FINELINE_API_KEY", "new")
        rollouts.roll_out(2, models[1], asked[1])
        assert rollouts.told.gate is not None
        assert rollouts.told.gate.passed
        assert [one.old for one in rollouts.told.gate.asked] == [None] * len(asked[1])
        for command in restart:
            shell(command)
        wait_for(lambda: only_new_pods(space), ENDED_SECONDS)
        time.sleep(LEAVE_SECONDS)
        assert [status(url, key) for key in ("old", "new", "third")] == [200, 200, 401]
        sent.update(bearer("new"))  # the clients change
        time.sleep(LEAVE_SECONDS)
        for command in (remove, *restart_again):
            shell(command)
        wait_for(lambda: only_new_pods(space), ENDED_SECONDS)
        time.sleep(LEAVE_SECONDS)
    assert met.failures == []
    assert met.answers.keys() == {"1", "2"}
    assert [status(url, key) for key in ("old", "new")] == [401, 200]
    # The restart has left nothing that the next rollout takes for somebody else's.
    pods = rollouts.deployment(2)["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in pods["metadata"]["annotations"]
    rollouts.roll_out(2, models[1], asked[1])
    assert rollouts.deployment(2)["spec"]["template"] == pods
