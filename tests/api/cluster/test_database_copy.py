"""The copy of the API's database on the runs volume: what a backup of a namespace has of it, and how it comes back."""

from pathlib import Path

import pytest

from api.cluster import database_copy
from api.cluster.database_copy import begin_with_copy, keep_copy
from steps.backup.api_database import restore_database, saved_database
from steps.common.runtime.cluster_settings import SERVE_IMAGE_SETTING
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from tests.steps.backup.test_api_database import key_in, works


def aside() -> list[Path]:
    return sorted(volumes.runs().glob("api-copy.restored*"))


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
    assert aside() == []  # the copy that the database began with is no restored one


def test_a_copy_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    volumes.api_database_copy().mkdir()
    with pytest.raises(UserError, match=r"api-copy\.db: Is a directory; the API did not start"):
        begin_with_copy(f"sqlite:///{tmp_path / 'api.sqlite'}")


def test_a_copy_is_made_only_after_a_change(tmp_path: Path) -> None:
    own, copy = tmp_path / "api.sqlite", volumes.api_database_copy()
    key_in(own, "pets")
    keep_copy(f"sqlite:///{own}")
    first = copy.stat().st_ino
    keep_copy(f"sqlite:///{own}")
    assert copy.stat().st_ino == first


def test_a_copy_that_was_restored_while_the_api_got_its_first_team_is_kept_beside_the_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, own = tmp_path / "old.sqlite", tmp_path / "api.sqlite"
    lost = key_in(old, "pets")
    restore_database(old)
    made = key_in(own, "cats")
    keep_copy(f"sqlite:///{own}")
    assert works(volumes.api_database_copy(), made)
    assert [works(file, lost) for file in aside()] == [True]
    assert "api-copy.restored.db" in caplog.text

    # Restored over a copy that somebody has deleted: the old mark does not count for it.
    volumes.api_database_copy().unlink()
    restore_database(old)
    second = key_in(own, "dogs")
    keep_copy(f"sqlite:///{own}")
    assert works(volumes.api_database_copy(), second)
    assert [works(file, lost) for file in aside()] == [True, True]


def test_a_copy_of_another_database_is_not_overwritten(tmp_path: Path) -> None:
    first, second = tmp_path / "first.sqlite", tmp_path / "second.sqlite"
    lost = key_in(first, "pets")
    keep_copy(f"sqlite:///{first}")
    made = key_in(second, "cats")
    keep_copy(f"sqlite:///{second}")
    assert works(volumes.api_database_copy(), made)
    assert [works(file, lost) for file in aside()] == [True]


def test_a_copy_that_was_not_published_after_its_mark_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "api.sqlite"
    key_in(own, "pets")
    keep_copy(f"sqlite:///{own}")
    second = key_in(own, "cats")
    with monkeypatch.context() as broken:
        broken.setattr(database_copy, "publish_copy", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            keep_copy(f"sqlite:///{own}")
    keep_copy(f"sqlite:///{own}")
    assert works(volumes.api_database_copy(), second)
    assert aside() == []


def test_a_database_in_postgres_leaves_no_outdated_copy_for_a_backup_and_loses_no_restored_one(tmp_path: Path) -> None:
    own, url = tmp_path / "api.sqlite", "postgresql+psycopg2://user@host/fineline"
    key = key_in(own, "pets")
    restore_database(own)
    begin_with_copy(url)
    keep_copy(url)
    assert saved_database(tmp_path) is None
    assert [works(file, key) for file in aside()] == [True]
    keep_copy(url)
    assert len(aside()) == 1
