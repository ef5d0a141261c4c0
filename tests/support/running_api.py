"""The API as a real server in this process: uvicorn, SQLite, and this machine's jobs and addresses."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import openai
import uvicorn

from api.application import create_app
from api.database.engine import open_database
from api.files.file_contents import FileContents
from api.machine.machine_addresses import MachineAddresses
from api.machine.machine_jobs import MachineJobs
from api.services import Services
from api.settings import api_settings
from api.teams.api_keys import make_key
from api.teams.caller import Limits
from api.teams.teams import make_team, set_limits
from tests.support.commands import wait_for


@dataclass
class RunningApi:
    """A server that runs, and the keys that were made for it."""

    url: str
    services: Services
    _keys: dict[str, str] = field(default_factory=dict)

    def key(self, team: str) -> str:
        """Return a key of a team, which is made if it is new."""
        if team not in self._keys:
            with self.services.sessions.begin() as session:
                make_team(session, team)
                self._keys[team] = make_key(session, team).key
        return self._keys[team]

    def limit(self, team: str, **limits: Any) -> None:
        """Give a team these limits and no others."""
        self.key(team)
        with self.services.sessions.begin() as session:
            set_limits(session, team, Limits(**limits))

    def client(self, team: str = "pets", **options: Any) -> openai.OpenAI:
        """Return the client of a team, which repeats nothing by itself."""
        return openai.OpenAI(base_url=self.url, api_key=self.key(team), **{"max_retries": 0, "timeout": 60, **options})


@contextlib.contextmanager
def running_api(folder: Path, *, max_upload_bytes: int | None = None, **parts: Any) -> Iterator[RunningApi]:
    """Run a server whose database is in a folder; `parts` take the place of parts of its `Services`."""
    settings = replace(api_settings(), database=f"sqlite:///{folder / 'api.sqlite'}")
    if max_upload_bytes is not None:
        settings = replace(settings, max_upload_bytes=max_upload_bytes)
    sessions = open_database(settings.database)
    contents = FileContents(settings.max_upload_bytes)
    services = replace(Services(sessions, contents, MachineJobs(), MachineAddresses()), **parts)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(create_app(services, settings), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        wait_for(lambda: server.started, 30)
        try:
            yield RunningApi(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", services)
        finally:
            server.should_exit = True
            thread.join(30)
            sessions.kw["bind"].dispose()
