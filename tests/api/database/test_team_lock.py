"""The lock of a team, in one process and among several."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from api.database import team_lock as team_lock_module
from api.database.engine import POSTGRES_CONNECTIONS, open_database
from api.database.team_lock import locked_in_postgres, team_lock
from api.openai_errors import ApiError
from tests.support.postgres import postgres

HOLDS = """
import sys, time
from api.database.engine import open_database
from api.database.team_lock import team_lock
with team_lock(open_database(sys.argv[1]), "pets"):
    print("holds", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with postgres() as found:
        yield found


def test_one_holder_of_a_team_at_a_time(tmp_path: Path) -> None:
    sessions, holders, most = open_database(f"sqlite:///{tmp_path}/api.db"), 0, 0

    def hold(_: int) -> None:
        nonlocal holders, most
        with team_lock(sessions, "pets"):
            holders += 1
            most = max(most, holders)
            time.sleep(0.02)
            holders -= 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(hold, range(16)))
    assert most == 1


def test_another_process_waits_for_it_until_its_holder_has_gone(address: str) -> None:
    sessions, got = open_database(address), threading.Event()
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, address], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "holds\n"

    def wait() -> None:
        with team_lock(sessions, "pets"):
            got.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    with team_lock(sessions, "cars"):
        assert not got.wait(1)
    holder.kill()
    holder.wait()
    assert got.wait(30)
    waiting.join(30)
    with team_lock(sessions, "pets"):
        pass


def test_many_teams_at_once_leave_connections_for_their_work(address: str) -> None:
    sessions, counting, holders, most = open_database(address), threading.Lock(), 0, 0

    def work(number: int) -> None:
        nonlocal holders, most
        with team_lock(sessions, f"team-{number}"), sessions() as session:
            with counting:
                holders += 1
                most = max(most, holders)
            session.scalar(text("SELECT 1 FROM pg_sleep(0.2)"))
            with counting:
                holders -= 1

    with ThreadPoolExecutor(POSTGRES_CONNECTIONS) as threads:
        list(threads.map(work, range(POSTGRES_CONNECTIONS)))
    assert most < POSTGRES_CONNECTIONS / 2


def test_a_lock_that_another_server_holds_too_long_is_not_waited_for(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(team_lock_module.SESSION, "lock_timeout", "50ms")
    sessions = open_database(address)
    engine = sessions.kw["bind"]
    with locked_in_postgres(engine, "vets"):
        with (
            pytest.raises(ApiError, match="another change to the team's jobs or models is under way") as refused,
            locked_in_postgres(engine, "vets"),
        ):
            pass
        assert (refused.value.status, refused.value.wait_seconds) == (503, 30)
    with locked_in_postgres(engine, "vets"):
        pass
    with engine.connect() as connection:  # one of those that had the lock
        assert connection.scalar(text("SHOW lock_timeout")) == "0"
        with socket.socket(fileno=os.dup(connection.connection.fileno())) as used:
            assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


def test_a_connection_that_is_lost_releases_the_lock_and_harms_no_work(address: str) -> None:
    sessions = open_database(address)
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_advisory_lock%'"
    with team_lock(sessions, "pets"), sessions() as session:
        assert session.scalars(text(ended)).all() == [True]
    with team_lock(sessions, "pets"):
        pass
