"""The copy of the API's database on the runs volume: what a backup of a namespace has of it, and how it comes back."""

from pathlib import Path

import pytest

from api.cluster.database_copy import begin_with_copy, keep_copy
from steps.backup.api_database import restore_database, saved_database
from steps.common.runtime.cluster_settings import SERVE_IMAGE_SETTING
from steps.common.storage import volumes
from tests.steps.backup.test_api_database import key_in, works


@pytest.fixture(autouse=True)
def _in_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVE_IMAGE_SETTING, "fineline-serve:0.1.0")
    volumes.runs().mkdir(parents=True)


def test_a_namespace_that_was_restored_begins_with_the_teams_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, new = tmp_path / "own" / "api.sqlite", tmp_path / "new" / "api.sqlite"
    own.parent.mkdir()
    first = key_in(own, "pets")
    keep_copy(f"sqlite:///{own}")
    second = key_in(own, "cats")
    keep_copy(f"sqlite:///{own}")
    saved = saved_database(tmp_path)
    assert saved == volumes.api_database_copy()

    monkeypatch.setenv(volumes.RUNS_SETTING, str(tmp_path / "restored"))
    begin_with_copy(f"sqlite:///{new}")
    assert not new.exists()
    restore_database(saved)
    # Before the restart, the API has a database without teams, which must not become the copy.
    new.parent.mkdir()
    assert not works(new, first)
    keep_copy(f"sqlite:///{new}")
    begin_with_copy(f"sqlite:///{new}")
    assert works(new, first)
    assert works(new, second)
    third = key_in(new, "dogs")
    begin_with_copy(f"sqlite:///{new}")
    assert works(new, third)
    restore_database(saved)
    keep_copy(f"sqlite:///{new}")
    assert works(volumes.api_database_copy(), third)


def test_a_copy_is_made_only_after_a_change(tmp_path: Path) -> None:
    own, copy = tmp_path / "api.sqlite", volumes.api_database_copy()
    key_in(own, "pets")
    keep_copy(f"sqlite:///{own}")
    first = copy.stat().st_ino
    keep_copy(f"sqlite:///{own}")
    assert copy.stat().st_ino == first


def test_a_database_in_postgres_leaves_no_outdated_copy(tmp_path: Path) -> None:
    own, url = tmp_path / "api.sqlite", "postgresql+psycopg2://user@host/fineline"
    key_in(own, "pets")
    keep_copy(f"sqlite:///{own}")
    begin_with_copy(url)
    keep_copy(url)
    assert not volumes.api_database_copy().exists()
