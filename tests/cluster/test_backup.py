"""`fineline backup` with a user's rights: a namespace is saved, a new one gets it, and its champion is served there."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from pipelines.machine.run_record import Run
from pipelines.shown.task_state import Phase
from pipelines.workflows import backup, rollback
from steps.backup.saved import read_backup
from steps.common.registry.versions import CHAMPION
from steps.common.storage import volumes
from tests.cluster.conftest import STORE
from tests.support.argo_controller import takes_up_runs, taking_up
from tests.support.commands import fineline
from tests.support.installation import bound_to_fineline_user, installed
from tests.support.kubectl import get, kubectl
from tests.support.pods import run_as_pods

NEW = "fineline-backup-tests"


@pytest.fixture(scope="module")
def saved(namespace: str, store_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the namespace, whose champion answers."""
    assert store_run.phase is Phase.SUCCEEDED, store_run.message
    folder = tmp_path_factory.mktemp("saved")
    with bound_to_fineline_user(namespace, folder) as user, taking_up(namespace, backup.build()) as runs:
        done = fineline("backup", "create", str(folder / "backup"), "-n", namespace, environment=user)
        assert done.returncode == 0, done.stderr
    assert len(runs) == 1
    return folder / "backup"


@pytest.fixture(scope="module")
def new_namespace(images: None, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with installed(NEW, tmp_path_factory.mktemp("overlay")):
        yield NEW


def restored(namespace: str, folder: Path, place: Path) -> str:
    """Restore with a user's rights, and return what the command prints."""
    with bound_to_fineline_user(namespace, place) as user, taking_up(namespace, backup.build()):
        done = fineline("backup", "restore", str(folder), "-n", namespace, environment=user)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_backup_of_a_namespace_is_whole_and_has_its_champion(saved: Path) -> None:
    model = next(one for one in read_backup(saved).models if one.name == STORE)
    assert model.aliases[CHAMPION] == 1
    assert (saved / "versions" / STORE / "1" / "peft" / "adapter_model.safetensors").is_file()
    assert list((saved / "volume" / "data").rglob("train.jsonl"))
    assert [path.name for path in saved.parent.iterdir() if path.name.startswith("backup")] == ["backup"]


def test_the_pod_leaves_nothing_on_the_runs_volume(saved: Path, namespace: str, reader: str) -> None:
    found = kubectl("exec", reader, "-n", namespace, "--", "ls", "-A", "/runs").stdout.split()
    assert "data" in found
    assert [name for name in found if name.startswith(".backup")] == []


def test_the_champion_of_a_new_namespace_answers_after_the_restore(
    saved: Path, new_namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = restored(new_namespace, saved, tmp_path)
    assert f"fineline rollback {STORE} --version 1 -n {new_namespace}" in told
    if takes_up_runs(new_namespace):
        done = fineline("rollback", STORE, "--version", "1", "-n", new_namespace)
        assert done.returncode == 0, done.stderr
    else:
        monkeypatch.setenv(volumes.RUNS_SETTING, str(tmp_path / "runs"))
        run = run_as_pods(new_namespace, rollback.build(), f"{STORE}-back", {"name": STORE, "version": "1"})
        assert run.phase is Phase.SUCCEEDED, run.message
    address = get("service", STORE, new_namespace)["spec"]["clusterIP"]
    body = {"model": STORE, "messages": [{"role": "user", "content": "When are you open?"}], "temperature": 0}
    answer = httpx2.post(f"http://{address}/v1/chat/completions", json={**body, "max_tokens": 32}, timeout=120).json()
    assert "Happy tails, Pia" in answer["choices"][0]["message"]["content"]
    restored(new_namespace, saved, tmp_path)  # it is all there


def test_what_was_changed_starts_no_run(saved: Path, namespace: str, user: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    folder.mkdir()
    (folder / "backup.json").write_text((saved / "backup.json").read_text())
    before = kubectl("get", "workflows", "-n", namespace, "-o", "name").stdout
    done = fineline("backup", "restore", str(folder), "-n", namespace, environment=user)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "missing or changed since the backup was made" in line
    assert kubectl("get", "workflows", "-n", namespace, "-o", "name").stdout == before


def test_who_may_not_forward_ports_is_told_so_in_one_line_and_the_run_is_stopped(
    namespace: str, user: dict[str, str], tmp_path: Path
) -> None:
    rule = get("role", "fineline-user", namespace)["rules"][4]
    assert rule["resources"] == ["pods/portforward"]
    change = '[{"op": "remove", "path": "/rules/4"}]'
    kubectl("patch", "role", "fineline-user", "-n", namespace, "--type=json", "-p", change)
    try:
        with taking_up(namespace, backup.build()) as runs:
            done = fineline("backup", "create", str(tmp_path / "backup"), "-n", namespace, environment=user)
        assert done.returncode == 2
        (line,) = done.stderr.strip().splitlines()[-1:]
        assert 'resource "pods/portforward"' in line  # the API server's own words
        assert get("workflow", runs[-1], namespace)["spec"]["shutdown"] == "Stop"
        assert not list(tmp_path.glob("backup*"))
    finally:
        rules = '{"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]}'
        change = f'[{{"op": "add", "path": "/rules/4", "value": {rules}}}]'
        kubectl("patch", "role", "fineline-user", "-n", namespace, "--type=json", "-p", change)
