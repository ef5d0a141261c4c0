"""A lock for each team, which every process of the API respects that has the same database."""

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.orm import Session, sessionmaker

_here: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


@contextlib.contextmanager
def team_lock(sessions: sessionmaker[Session], team: str) -> Iterator[None]:
    """Hold a team's lock, so that what is counted within the block stays so until its end.

    SQLite is for one process, so only Postgres is asked for the lock too. It takes the lock back when the process dies.
    """
    engine = sessions.kw["bind"]
    with _here[team]:
        if engine.dialect.name == "postgresql":
            with locked_in_postgres(engine, team):
                yield
        else:
            yield


@contextlib.contextmanager
def locked_in_postgres(engine: Engine, team: str) -> Iterator[None]:
    """Hold a team's lock in the database; while another process has it, wait."""
    number = int.from_bytes(sha256(f"fineline {team}".encode()).digest()[:8], signed=True)
    with engine.connect() as plain:
        connection: Connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(select(func.pg_advisory_lock(number)))
        try:
            yield
        finally:
            connection.execute(select(func.pg_advisory_unlock(number)))
