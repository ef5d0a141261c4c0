"""Opens the database, and migrates its tables to this release."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from steps.common.runtime.errors import UserError, first_line

MIGRATIONS = Path(__file__).parent / "migrations"
KINDS = ("sqlite", "postgresql")
WAIT_SECONDS = 30  # for another process that writes
CONNECTIONS = 50  # to SQLite: about as many as the server has threads
# Of one server. Postgres accepts 100 by default, and keeps 3 of them for administrators. This is enough for two servers, and a
# third one while a release replaces them.
POSTGRES_CONNECTIONS = 30
KEPT_OPEN = 5
KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
MIGRATING = 0x66696E656C696E65  # key of an advisory lock in Postgres: "fineline"


def open_database(url: str) -> sessionmaker[Session]:
    """Open the database at an SQLAlchemy URL, create or migrate its tables, and return its session factory.

    Several processes may start at once: one migrates, the others wait for it.

    Raises:
        UserError: it cannot be opened or migrated.
    """
    where = _parsed(url)
    shown = where.render_as_string(hide_password=True)
    try:
        engine = _engine(where)
        with engine.connect() as connection:
            _lock(connection)
            _migrate(connection, shown)
            connection.commit()
    except OSError as error:
        raise UserError(f"database {shown}: {error.strerror or error}; check FINELINE_API_DATABASE") from error
    except ImportError as error:
        raise UserError(
            f"database {shown}: its driver is not installed: {error}; check FINELINE_API_DATABASE"
        ) from error
    except SQLAlchemyError as error:
        raise UserError(f"database {shown}: {first_line(error)}; check FINELINE_API_DATABASE") from error
    return sessionmaker(engine)


def _parsed(url: str) -> URL:
    try:
        where = make_url(url)
        where.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        where = None
    if where is None or where.get_backend_name() not in KINDS:
        # Not quoted, since it may contain a password.
        raise UserError(
            "FINELINE_API_DATABASE: is not a URL of SQLite or Postgres; write it as sqlite:////FOLDER/FILE or "
            "postgresql+psycopg2://HOST/DATABASE, with user and password before the host"
        )
    return where


def _engine(where: URL) -> Engine:
    if where.get_backend_name() == "postgresql":
        # Otherwise a statement would wait for hours if Postgres vanishes with its node. Only these drivers know the settings.
        alive = KEEPALIVES if where.get_driver_name() in ("psycopg2", "psycopg") else {}
        # The server may have closed a connection while it was idle in the pool.
        return create_engine(
            where,
            connect_args=alive,
            pool_size=KEPT_OPEN,
            max_overflow=POSTGRES_CONNECTIONS - KEPT_OPEN,
            pool_pre_ping=True,
        )
    if where.database in (None, "", ":memory:"):
        raise UserError(
            "FINELINE_API_DATABASE: a database in memory is lost when the process ends; write it as sqlite:////FOLDER/FILE"
        )
    file = Path(str(where.database))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    # Python's driver begins a transaction only at the first write, so reads before it hold no lock.
    pool = {"pool_size": KEPT_OPEN, "max_overflow": CONNECTIONS - KEPT_OPEN}
    engine = create_engine(where, connect_args={"timeout": WAIT_SECONDS}, **pool)

    @event.listens_for(engine, "connect")
    def _connected(connection: object, _: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON")  # type: ignore[attr-defined]

    return engine


def _lock(connection: Connection) -> None:
    """Wait until no other process migrates. The lock is released when the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATING})")
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate(connection: Connection, shown: str) -> None:
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(settings).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise UserError(
            f"database {shown}: was migrated by a later release of Fineline ({current}); update Fineline, or name "
            "another database in FINELINE_API_DATABASE"
        )
    command.upgrade(settings, "head")
