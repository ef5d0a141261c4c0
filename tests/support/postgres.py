"""A real Postgres in a folder of its own, for MLflow's records."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.commands import free_port, wait_for

USER = "postgres"


PROGRAMS = ("initdb", "postgres", "pg_isready")


def _programs() -> Path | None:
    """Return the folder of Postgres's programs, which Debian keeps out of the path; None: there is none."""
    places = [*map(Path, os.get_exec_path()), *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    return next((place for place in places if all((place / name).is_file() for name in PROGRAMS)), None)


def new_database(address: str, name: str) -> str:
    """Make an empty database beside the one at an address, and return its address."""
    from sqlalchemy import create_engine, make_url, text

    url = make_url(address)
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.set(database=name).render_as_string(hide_password=False)


@contextmanager
def postgres() -> Iterator[str]:
    """Start Postgres, and yield the address of an empty database as MLflow takes it; skip the test where there is none."""
    programs, user = _programs(), None
    if programs is None:
        pytest.skip("there is no Postgres on this machine")
    pytest.importorskip("psycopg2", reason="there is no psycopg2, MLflow's driver for Postgres")
    if os.geteuid() == 0:  # as which Postgres does not run
        try:
            user = pwd.getpwnam(USER).pw_name
        except KeyError:
            pytest.skip(f"Postgres does not run as root, and there is no user {USER!r}")
    # Not below pytest's folder, which only this user may enter.
    with tempfile.TemporaryDirectory(prefix="fineline-postgres-") as name:
        folder, port = Path(name), free_port()
        if user:
            shutil.chown(folder, user)
        made = ["-D", "data", "-U", "fineline", "--auth=trust", "--no-sync", "--encoding=UTF8", "--no-locale"]
        subprocess.run([programs / "initdb", *made], cwd=folder, user=user, check=True, capture_output=True)
        own = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        command = [str(programs / "postgres"), "-D", "data", "-p", str(port), "-k", str(folder), *own]
        server = subprocess.Popen(command, cwd=folder, user=user, stderr=subprocess.DEVNULL)
        try:
            asks = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
            wait_for(lambda: subprocess.run(asks, check=False).returncode == 0, 60)
            yield f"postgresql+psycopg2://fineline@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # at SIGTERM it would wait for its clients
            server.wait(60)
