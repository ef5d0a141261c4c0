"""What the routes of the API work with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from fastapi import Request

from api.jobs.job_place import JobPlace

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from api.files.file_contents import FileContents
    from api.models.served_addresses import Addresses


@dataclass(frozen=True)
class Services:
    """The state that the routes share."""

    sessions: "sessionmaker[Session]"
    contents: "FileContents"
    jobs: JobPlace
    addresses: "Addresses"


def services(request: Request) -> Services:
    """Return the application's services, for a route's `Depends`."""
    return cast(Services, request.app.state.services)
