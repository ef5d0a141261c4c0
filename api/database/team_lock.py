"""A lock for each team, shared by all processes of the API that use the same database."""

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.orm import Session, sessionmaker

from api.openai_errors import ApiError

WAIT_SECONDS = 30
# Postgres asks after an idle client: one that has vanished with its node would hold its locks for hours.
SESSION = {"lock_timeout": f"{WAIT_SECONDS}s", "tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10"}
NOT_IN_TIME = "55P03"  # Postgres's error code for lock_timeout
MOST_LOCKS = 8  # at once in Postgres, each with a connection; who holds one needs another connection for its work

_room = threading.BoundedSemaphore(MOST_LOCKS)
_here: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


@contextlib.contextmanager
def team_lock(sessions: sessionmaker[Session], team: str) -> Iterator[None]:
    """Hold a team's lock, so that what is counted within the block stays true until its end.

    SQLite serves one process only, which needs no lock in the database. Postgres releases its lock when the process dies.

    Raises:
        ApiError: another process holds it too long.
    """
    engine = sessions.kw["bind"]
    with _here[team]:
        if engine.dialect.name == "postgresql":
            with _room, locked_in_postgres(engine, team):
                yield
        else:
            yield


@contextlib.contextmanager
def locked_in_postgres(engine: Engine, team: str) -> Iterator[None]:
    """Hold a team's lock in the database, after waiting for any other process that holds it.

    Raises:
        ApiError: another process holds it too long.
    """
    number = int.from_bytes(sha256(f"fineline {team}".encode()).digest()[:8], signed=True)
    with engine.connect() as plain, contextlib.ExitStack() as kept:
        connection: Connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        for name, value in SESSION.items():
            connection.exec_driver_sql(f"SET {name} = '{value}'")
            kept.callback(_quietly, connection, f"RESET {name}")
        try:
            connection.execute(select(func.pg_advisory_lock(number)))
        except OperationalError as error:
            if getattr(error.orig, "pgcode", None) != NOT_IN_TIME:
                raise
            raise ApiError(
                503,
                f"another change to the team's jobs or models is under way; try again in {WAIT_SECONDS} seconds",
                code="overloaded",
                wait_seconds=WAIT_SECONDS,
            ) from None
        kept.callback(_quietly, connection, f"SELECT pg_advisory_unlock({number})")
        yield


def _quietly(connection: Connection, statement: str) -> None:
    """Execute a statement unless the connection is lost, and with it the lock and its settings."""
    with contextlib.suppress(OperationalError, InterfaceError, PendingRollbackError):
        connection.exec_driver_sql(statement)
