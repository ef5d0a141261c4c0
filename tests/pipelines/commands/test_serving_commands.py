"""`fineline serving` and `fineline rollback`, as far as they need no server."""

import json
from pathlib import Path

import pytest

from pipelines.command import main
from steps.common.machine import servers
from steps.common.storage import volumes


@pytest.fixture
def refused() -> servers.RefusedVersion:
    folder = volumes.serving("store") / "version-2"
    folder.mkdir(parents=True)
    (folder / "server.log").write_text("it fell over")
    version = servers.RefusedVersion(name="store", version=2, reason="it is too slow", folder=str(folder))
    servers.remember_refused(version)
    return version


def test_what_is_kept_of_a_refused_version_is_listed_with_the_reason_and_deleted(
    refused: servers.RefusedVersion, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serving", "list"]) == 0
    output = capsys.readouterr().out
    assert "store version 2 was refused: it is too slow" in output
    assert refused.folder in output
    assert main(["serving", "clean", "store"]) == 0
    assert not Path(refused.folder).exists()
    assert main(["serving", "clean"]) == 0
    assert "no refused versions to clean up" in capsys.readouterr().out


def test_cleaning_what_is_not_there_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serving", "clean", "store"]) == 2
    assert "model 'store' has no refused version to clean up" in capsys.readouterr().err


def test_the_listing_of_nothing_is_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serving", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_going_back_with_a_model_that_is_served_nowhere_says_where_to_look(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["rollback", "store"]) == 2
    assert "model 'store' is not served on this machine" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--version", "--to"])
def test_going_back_to_what_is_no_version_is_a_mistake(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "store", option, "best"]) == 2
    assert "--version: 'best' is not a version number" in capsys.readouterr().err


def test_a_server_that_a_killed_rollout_has_left_is_stopped_too() -> None:
    import subprocess
    import sys

    import psutil

    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    state = servers.Process(pid=left.pid, started=psutil.Process(left.pid).create_time(), port=1)
    folder = volumes.serving("store") / "version-3"
    folder.mkdir(parents=True)
    (folder / servers.STARTED).write_text(state.model_dump_json())
    assert servers.stop("store")
    assert not state.alive()
