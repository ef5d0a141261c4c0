"""A lock for each team, shared by all processes of the API that use the same database."""

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

MOST_LOCKS = 8  # at once in Postgres, each with a connection; who holds one needs another connection for its work

_room = threading.BoundedSemaphore(MOST_LOCKS)
_here: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


@contextlib.contextmanager
def team_lock(sessions: sessionmaker[Session], team: str) -> Iterator[None]:
    """Hold a team's lock, so that what is counted within the block stays true until its end.

    SQLite serves one process only, which needs no lock in the database. Postgres releases its lock when the process dies.
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
    """Hold a team's lock in the database, after waiting for any other process that holds it."""
    number = int.from_bytes(sha256(f"fineline {team}".encode()).digest()[:8], signed=True)
    with engine.connect() as plain:
        connection: Connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(select(func.pg_advisory_lock(number)))
        try:
            yield
        finally:
            with contextlib.suppress(OperationalError, InterfaceError):  # the lock has gone with its connection
                connection.execute(select(func.pg_advisory_unlock(number)))
