"""The services that the routes of the API share."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, cast

import anyio
from fastapi import Depends, Request

from api.database.team_lock import MOST_LOCKS
from api.jobs.job_place import JobPlace
from api.server.slow_work import SlowWork

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from api.files.file_contents import FileContents
    from api.models.served_addresses import Addresses


LONG_BODIES = 4  # that are read at once


@dataclass(frozen=True)
class Services:
    """The state that the routes share."""

    sessions: "sessionmaker[Session]"
    contents: "FileContents"
    jobs: JobPlace
    addresses: "Addresses"
    row_checks: SlowWork = field(default_factory=lambda: SlowWork("checks of files"))
    plans: SlowWork = field(default_factory=lambda: SlowWork("plans of jobs"))
    # What waits for a team's lock, which is held while something else, such as the registry, is asked.
    changes: SlowWork = field(
        default_factory=lambda: SlowWork("changes to jobs and models", MOST_LOCKS, one_of_a_team=True)
    )
    long_bodies: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(LONG_BODIES))


def services(request: Request) -> Services:
    """Return the application's services, for a route's `Depends`."""
    return cast(Services, request.app.state.services)


TheServices = Annotated[Services, Depends(services)]  # for the parameter of a route
