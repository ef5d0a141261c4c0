"""The API on a real socket, with teams and their keys."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI
from openai import OpenAI
from sqlalchemy.orm import Session, sessionmaker

from api.api_settings import ApiSettings, api_settings
from api.database.engine import open_database
from api.files.file_contents import FileContents
from api.machine.machine_addresses import MachineAddresses
from api.machine.machine_jobs import MachineJobs
from api.server.application import create_app
from api.server.services import Services
from api.teams.api_keys import make_key
from api.teams.caller import Limits
from api.teams.teams import make_team, set_limits
from tests.support.commands import wait_for


def machine_services(settings: ApiSettings | None = None) -> Services:
    """Return what the routes work with, on this machine's volumes; nothing executes jobs."""
    settings = settings or api_settings()
    contents = FileContents(settings.max_upload_bytes)
    return Services(open_database(settings.database), contents, MachineJobs(), MachineAddresses())


def machine_app(settings: ApiSettings | None = None) -> FastAPI:
    """Return the application over this machine's volumes; nothing executes jobs."""
    settings = settings or api_settings()
    return create_app(machine_services(settings), settings)


def team_key(sessions: sessionmaker[Session], team: str, limits: Limits | None = None) -> str:
    """Make a team, if it is new, and return a key of it."""
    with sessions.begin() as session:
        make_team(session, team)
        if limits:
            set_limits(session, team, limits)
        return make_key(session, team).key


@contextlib.contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """Serve an application in this process, and yield its address without a path."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            wait_for(lambda: server.started, 120)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


def client_of(address: str, key: str) -> OpenAI:
    """Return a client that asks once."""
    return OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=60)
