"""The API's teams and keys in a backup: as they were at one moment, and back only where there are none yet."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from api.database.engine import open_database
from api.teams.api_keys import verified
from steps.backup.api_database import has_teams, restore_database, saved_database
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from tests.support.api_server import team_key


def key_in(file: Path, team: str) -> str:
    return team_key(open_database(f"sqlite:///{file}"), team)


def works(file: Path, key: str) -> bool:
    with open_database(f"sqlite:///{file}")() as session:
        return verified(session, key) is not None


def test_there_need_not_be_one(tmp_path: Path) -> None:
    assert saved_database(tmp_path) is None
    assert not has_teams(volumes.api_database())


def test_what_is_not_committed_is_not_saved(tmp_path: Path) -> None:
    live, folder = volumes.api_database(), tmp_path / "staging"
    folder.mkdir()
    key = key_in(live, "pets")
    with closing(sqlite3.connect(live)) as writing:
        writing.execute("INSERT INTO teams (name, created_at) VALUES ('cats', 1)")
        saved = saved_database(folder)
        writing.rollback()
    assert saved is not None
    assert works(saved, key)
    with closing(sqlite3.connect(saved)) as found:
        assert found.execute("SELECT name FROM teams").fetchall() == [("pets",)]


@pytest.mark.parametrize("opened", [False, True], ids=["no database", "an open one without teams"])
def test_it_comes_back_where_there_are_no_teams_and_changes_none_where_there_are(tmp_path: Path, opened: bool) -> None:
    old, live = tmp_path / "old.sqlite", volumes.api_database()
    key = key_in(old, "pets")
    sessions = open_database(f"sqlite:///{live}") if opened else None
    restore_database(old)
    assert works(live, key)
    assert stat.S_IMODE(live.stat().st_mode) == 0o600
    if sessions:
        with sessions() as session:
            assert verified(session, key) is not None
    later = key_in(live, "cats")
    restore_database(old)
    assert works(live, later)


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.sqlite"
    wrong.write_text("not a database " * 100)
    with pytest.raises(UserError, match=r"wrong\.sqlite: cannot be copied to"):
        restore_database(wrong)
