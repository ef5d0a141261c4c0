"""One pod at a time fetches a model, by a Lease; if it is lost another continues, even if their nodes' clocks differ."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from steps.common.storage import volumes
from steps.common.weights import store
from tests.support.commands import wait_for
from tests.support.kubectl import ROOT, kubectl, may
from tests.support.source import Behaviour, Source, make_model
from tests.support.steps import Account

SPACE = "fineline-leases"
MB = 1_000_000
LEASE_SECONDS = 4
PULL = f"""
import steps.common.kubernetes.lease as lease
lease.SECONDS, lease.RENEW_SECONDS, lease.POLL_SECONDS = {LEASE_SECONDS}, 1.0, 0.2
from steps.plan.model import resolve_model
from steps.pull.publish import publish_model
folder, fetched = publish_model(resolve_model("hf://org/tiny"))
print(folder, fetched)
"""


@pytest.fixture(scope="module")
def space() -> Iterator[str]:
    kubectl("delete", "namespace", SPACE, "--ignore-not-found")
    kubectl("create", "namespace", SPACE)
    kubectl("apply", "-n", SPACE, "-f", str(ROOT / "argo" / "base" / "accounts.yaml"))
    yield SPACE
    kubectl("delete", "namespace", SPACE, "--timeout=120s")


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    make_model(tmp_path / "model", 2, 10 * MB)
    source = Source(tmp_path / "model")
    yield source
    source.close()


@pytest.fixture
def begin(space: str, source: Source, tmp_path: Path) -> Callable[[], "subprocess.Popen[str]"]:
    """Returns a function that starts a pull, with the permissions that pull has in its pod."""
    account = Account(tmp_path, space, "fineline-pull", {})
    settings = {
        "KUBECONFIG": str(account.kubeconfig),
        "FINELINE_SERVE_IMAGE": "fineline-serve:0.1.0",  # tells a step that it is in a cluster
        "HF_ENDPOINT": source.url,
        volumes.WEIGHTS_SETTING: str(tmp_path / "weights"),
        volumes.RUNS_SETTING: str(tmp_path / "runs"),
    }

    def start() -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", PULL]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env={**os.environ, **settings}, stdout=pipe, stderr=pipe, text=True)

    return start


def leases() -> list[str]:
    return kubectl("get", "leases", "-n", SPACE, "-o", "jsonpath={.items[*].metadata.name}").stdout.split()


def published(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "weights" / "models").glob("*/manifest.json")
    assert store.intact(found.parent)
    return found.parent


def test_two_fetch_it_once_and_nothing_of_the_lease_is_left(
    begin: Callable[[], "subprocess.Popen[str]"], source: Source, tmp_path: Path
) -> None:
    source.behave = lambda _: Behaviour(bytes_a_second=2 * MB)
    both = [begin(), begin()]
    wait_for(leases, 120)
    told = [one.communicate(timeout=120) for one in both]
    assert all(one.returncode == 0 for one in both), told
    assert sorted(int(out.split()[1]) > 0 for out, _ in told) == [False, True]
    assert source.sent == source.size
    assert any("waiting for the process that fetches tiny" in err for _, err in told)
    published(tmp_path)
    assert not leases()


def test_when_the_one_that_fetches_is_lost_another_takes_over_where_it_was(
    begin: Callable[[], "subprocess.Popen[str]"], source: Source, tmp_path: Path
) -> None:
    source.behave = lambda _: Behaviour(bytes_a_second=MB)
    first = begin()
    wait_for(lambda: source.sent > 12 * MB, 60)
    first.kill()
    source.behave = lambda _: Behaviour()
    out, err = begin().communicate(timeout=120)
    assert f"has not renewed the Lease for {LEASE_SECONDS}" in err
    assert 0 < int(out.split()[1]) < source.size - 2 * MB
    published(tmp_path)
    assert not leases()


def lease(name: str, renewed: datetime, holder: str = "another-node") -> dict[str, Any]:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": SPACE},
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": f"{renewed:%Y-%m-%dT%H:%M:%S.%fZ}",
        },
    }


@pytest.mark.parametrize("skew", [timedelta(hours=-3), timedelta(hours=3)], ids=["slow", "fast"])
def test_a_clock_that_is_wrong_neither_keeps_the_right_nor_gives_it_away(
    begin: Callable[[], "subprocess.Popen[str]"], source: Source, tmp_path: Path, skew: timedelta
) -> None:
    process = begin()
    wait_for(lambda: leases() or process.poll() is not None, 60)
    process.communicate(timeout=60)
    folder = published(tmp_path)
    subprocess.run(["rm", "-rf", tmp_path / "weights"], check=True)
    name = f"fineline-pull-models-{folder.name}"
    stop = threading.Event()

    def renews() -> None:
        while not stop.wait(1.0):
            kubectl("apply", "-f", "-", document=lease(name, datetime.now(UTC) + skew))

    kubectl("apply", "-f", "-", document=lease(name, datetime.now(UTC) + skew))
    thread = threading.Thread(target=renews)
    thread.start()
    before = source.sent
    process = begin()
    time.sleep(3 * LEASE_SECONDS)
    # The holder renews by its own clock: it is waited for.
    assert process.poll() is None
    assert source.sent == before
    stop.set()
    thread.join()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "another-node has not renewed the Lease for" in err
    published(tmp_path)


def test_whoever_has_lost_the_right_stops_and_keeps_what_it_has(
    begin: Callable[[], "subprocess.Popen[str]"], source: Source, tmp_path: Path
) -> None:
    source.behave = lambda _: Behaviour(bytes_a_second=MB / 4)
    process = begin()
    (name,) = wait_for(leases, 60)
    wait_for(lambda: source.sent > MB, 60)
    kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", "-", document=lease(name, datetime.now(UTC), "a-thief")
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"the Lease {name} was not renewed" in err
    assert not list((tmp_path / "weights" / "models").glob("*/manifest.json"))
    kubectl("delete", "lease", name, "-n", SPACE)


def test_only_pull_and_rollout_may_write_leases(space: str) -> None:
    for account, allowed in (("fineline-pull", True), ("fineline-step", False), ("fineline-rollout", True)):
        assert may(account, space, "update", "leases", "coordination.k8s.io") is allowed
