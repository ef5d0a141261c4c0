"""The API of this machine as a real server: SQLite, this machine's jobs and addresses, and clients of teams."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from openai import OpenAI

from api.api_settings import api_settings
from api.database.engine import open_database
from api.files.file_contents import FileContents
from api.machine.machine_addresses import MachineAddresses
from api.machine.machine_jobs import MachineJobs
from api.server.application import create_app
from api.server.services import Services
from tests.support.api_server import client_of, listening, team_key


@dataclass
class RunningApi:
    """A server that runs, and the keys that were made for it."""

    address: str  # without a path
    services: Services
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The base URL of the API."""
        return f"{self.address}/v1"

    def key(self, team: str) -> str:
        """Return a key of a team, which is made if it is new."""
        if team not in self.keys:
            self.keys[team] = team_key(self.services.sessions, team)
        return self.keys[team]

    def client(self, team: str = "pets") -> OpenAI:
        """Return the client of a team, which repeats nothing by itself."""
        return client_of(self.address, self.key(team))


@contextlib.contextmanager
def running_api(folder: Path, *, max_upload_bytes: int | None = None, **parts: Any) -> Iterator[RunningApi]:
    """Run a server whose database is in a folder; `parts` take the place of parts of its `Services`."""
    settings = replace(api_settings(), database=f"sqlite:///{folder / 'api.sqlite'}")
    if max_upload_bytes is not None:
        settings = replace(settings, max_upload_bytes=max_upload_bytes)
    sessions = open_database(settings.database)
    contents = FileContents(settings.max_upload_bytes)
    services = replace(Services(sessions, contents, MachineJobs(), MachineAddresses()), **parts)
    with listening(create_app(services, settings)) as address:
        yield RunningApi(address, services)
    sessions.kw["bind"].dispose()
