"""The whole drill: a machine's champion is saved, restored on an empty machine, and answers there as before."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from steps.backup.saved import Backup, read_backup
from tests.conftest import write_chats
from tests.support.commands import fineline, free_port, result, tiny_recipe
from tests.support.postgres import postgres
from tests.support.registry import mlflow_server


@dataclass
class Saved:
    """A backup, and what the champion answered when it was made."""

    folder: Path
    answer: str


def environment(machine: Path, registry: str = "") -> dict[str, str]:
    found = {"FINELINE_WEIGHTS": str(machine / "weights"), "FINELINE_RUNS": str(machine / "runs")}
    return {**found, "MLFLOW_TRACKING_URI": registry}


def ask(url: str) -> str:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "when do you have food"}], "temperature": 0}
    answer = httpx2.post(f"{url}/chat/completions", json={**body, "max_tokens": 8}, timeout=60)
    return str(answer.raise_for_status().json()["choices"][0]["message"]["content"])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Saved]:
    """The backup of a machine that has tuned and served a model, with MLflow's records in SQLite."""
    machine = tmp_path_factory.mktemp("machine")
    recipe = tiny_recipe(machine, tiny_model, write_chats(machine / "chats.jsonl"), epochs=4)
    served = ["-o", "serve.enabled=true", "-o", f"serve.port={free_port()}", "-o", "serve.watch_seconds=1"]
    done = fineline("run", recipe, "--json", *served, environment=environment(machine))
    assert done.returncode == 0, done.stderr
    found = Saved(machine / "backup", ask(result(done)["url"]))
    made = fineline("backup", "create", str(found.folder), environment=environment(machine))
    assert made.returncode == 0, made.stderr
    assert fineline("serving", "stop", "tiny", environment=environment(machine)).returncode == 0
    yield found


@pytest.fixture(params=["sqlite", "postgres"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty registry; empty: SQLite beside the runs."""
    if request.param == "sqlite":
        yield ""
        return
    with postgres() as database, mlflow_server(tmp_path, database) as port:
        yield f"http://127.0.0.1:{port}"


def content(backup: Backup) -> dict[str, Any]:
    """Return what a backup must have again after a restore: all but the ids that a registry gives its runs."""
    runs = {run.id: run.name for model in backup.models for run in model.runs}
    files = {
        "/".join(runs.get(part, part) for part in name.split("/")): sha256 for name, sha256 in backup.files.items()
    }
    models = json.loads(backup.model_dump_json())["models"]
    for model in models:
        for version in model["versions"]:
            version["run"] = runs.get(version["run"], "")
        for run in model["runs"]:
            run.pop("id")
            run["metrics"] = sorted(run["metrics"], key=lambda one: (one["key"], one["step"], one["timestamp"]))
            run["tags"] = {key: value for key, value in run["tags"].items() if not key.startswith("mlflow.")}
        model["runs"].sort(key=lambda run: (run["began"], run["name"]))
    return {"models": models, "files": files}


def test_the_champion_answers_from_the_restored_registry_and_a_backup_of_that_is_the_same(
    saved: Saved, registry: str, tmp_path: Path
) -> None:
    machine = environment(tmp_path / "empty", registry)
    done = fineline("backup", "restore", str(saved.folder), environment=machine)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [
        "tiny: version 1 was the champion; to serve it: fineline rollback tiny --version 1"
    ]
    again = fineline("backup", "create", str(tmp_path / "again"), environment=machine)
    assert again.returncode == 0, again.stderr
    assert content(read_backup(tmp_path / "again")) == content(read_backup(saved.folder))

    assert fineline("rollback", "tiny", "--version", "2", environment=machine).returncode == 2  # there is none
    served = fineline("rollback", "tiny", "--version", "1", "--json", environment=machine)
    try:
        assert served.returncode == 0, served.stderr + served.stdout
        told = result(served)
        assert told["version"] == 1
        assert ask(told["url"]) == saved.answer
    finally:
        fineline("serving", "stop", "tiny", environment=machine)
