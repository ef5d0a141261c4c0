"""The database of the API: made and migrated at its first use, by any number of processes at once."""

import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from api.database.engine import POSTGRES_CONNECTIONS, open_database
from api.database.tables import ApiKey, Table, Team
from steps.common.runtime.errors import UserError
from tests.support.postgres import new_database, postgres

OPENS = "import sys; from api.database.engine import open_database; open_database(sys.argv[1])"
# Ends as at a SIGKILL, when some of the tables are there.
DIES = """
import os, sys
from sqlalchemy import Engine, event
from api.database.engine import open_database

@event.listens_for(Engine, "after_cursor_execute")
def executed(connection, cursor, statement, *_):
    if "CREATE TABLE files" in statement:
        os._exit(9)

open_database(sys.argv[1])
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/api.db"
    return new_database(request.getfixturevalue("server"), f"test_{uuid.uuid4().hex}")


def test_a_new_database_has_the_tables_that_the_code_knows_and_no_other(url: str) -> None:
    sessions = open_database(url)
    with sessions() as session:
        assert compare_metadata(MigrationContext.configure(session.connection()), Table.metadata) == []
        assert session.scalar(text("SELECT version_num FROM alembic_version")) is not None


def test_what_is_in_it_stays_when_it_is_opened_again(url: str) -> None:
    with open_database(url).begin() as session:
        session.add(Team(name="pets", created_at=1))
    with open_database(url)() as session:
        assert session.get_one(Team, "pets").created_at == 1


def test_processes_that_start_at_once_do_not_disturb_each_other(url: str) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", OPENS, url], stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    ended = [process.communicate()[1] for process in started]
    assert ([process.returncode for process in started], ended) == ([0] * 3, [""] * 3)
    with open_database(url)() as session:
        assert session.scalar(text("SELECT count(*) FROM alembic_version")) == 1


def test_a_migration_that_is_killed_leaves_nothing_behind(url: str) -> None:
    assert subprocess.run([sys.executable, "-c", DIES, url], check=False).returncode == 9
    with open_database(url)() as session:
        assert {"teams", "api_keys", "files", "models"} <= set(inspect(session.connection()).get_table_names())


def test_a_database_of_a_later_release_is_refused_and_left_as_it_is(url: str) -> None:
    with open_database(url).begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UserError, match=r"was migrated by a later release of Fineline \(9999\); update Fineline"):
        open_database(url)


def test_a_row_that_names_what_is_not_there_is_refused(url: str) -> None:
    key = ApiKey(id="key-1", team="nobody", sha256="0" * 64, start="fl-", created_at=1, ends_at=None)
    with pytest.raises(IntegrityError), open_database(url).begin() as session:
        session.add(key)


def test_whoever_has_only_read_holds_up_nobody(url: str) -> None:
    sessions = open_database(url)
    with sessions() as reader:
        assert reader.get(Team, "pets") is None
        with sessions.begin() as writer:
            writer.add(Team(name="pets", created_at=1))
        reader.add(Team(name="vets", created_at=2))
        reader.commit()


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path}/api.db")
    assert stat.S_IMODE((tmp_path / "api.db").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("mysql://me:hidden-word@host/x", "is not a URL of SQLite or Postgres"),
        ("postgresql", "is not a URL of SQLite or Postgres"),
        ("sqlite://", "a database in memory is lost when the process ends"),
        ("sqlite:////proc/nowhere/api.db", "database sqlite:////proc/nowhere/api.db: No such file or directory"),
        ("postgresql+psycopg2://me:hidden-word@127.0.0.1:1/x", "Connection refused; check FINELINE_API_DATABASE"),
        ("postgresql+asyncpg://me:hidden-word@127.0.0.1:1/x", "its driver is not installed: No module named 'asyncpg'"),
    ],
)
def test_a_database_that_cannot_be_opened_is_one_line_without_the_password(url: str, line: str) -> None:
    with pytest.raises(UserError) as told:
        open_database(url)
    assert line in str(told.value)
    assert "\n" not in str(told.value)
    assert "hidden-word" not in str(told.value)


@pytest.mark.parametrize(
    ("user", "database", "line"),
    [
        ("fineline", "nowhere", 'database "nowhere" does not exist'),
        ("nobody", "postgres", 'role "nobody" does not exist'),
        ("reader", "postgres", "permission denied for schema public"),
    ],
)
def test_what_postgres_refuses_is_one_line_without_the_password(
    server: str, user: str, database: str, line: str
) -> None:
    engine = create_engine(server)
    with engine.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS reader"))
        connection.execute(text("CREATE ROLE reader LOGIN"))
    engine.dispose()
    url = make_url(server).set(username=user, password="hidden-word", database=database)
    with pytest.raises(UserError) as told:
        open_database(url.render_as_string(hide_password=False))
    assert str(told.value).endswith(f"{line}; check FINELINE_API_DATABASE")
    assert "\n" not in str(told.value)
    assert "hidden-word" not in str(told.value)


def test_postgres_has_connections_for_two_servers_and_one_that_replaces_them(server: str) -> None:
    engine = open_database(new_database(server, f"test_{uuid.uuid4().hex}")).kw["bind"]
    engine.pool._timeout = 0.01
    with ExitStack() as stack:
        connections = [stack.enter_context(engine.connect()) for _ in range(POSTGRES_CONNECTIONS)]
        with pytest.raises(NoConnectionError):
            engine.connect()
        most, kept = (
            int(str(connections[0].scalar(text(f"SHOW {name}"))))
            for name in ("max_connections", "superuser_reserved_connections")
        )
    engine.dispose()
    assert most - kept > 3 * POSTGRES_CONNECTIONS


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "api.db").write_text("not a database " * 100)
    with pytest.raises(UserError, match="file is not a database; check FINELINE_API_DATABASE"):
        open_database(f"sqlite:///{tmp_path}/api.db")
