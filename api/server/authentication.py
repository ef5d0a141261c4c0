"""Identifies the team behind each request by its API key, before the body is read."""

from typing import Annotated, cast

import anyio
from anyio.to_thread import run_sync
from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy.orm import Session, sessionmaker
from starlette.types import ASGIApp, Receive, Scope, Send

from api.error_answers import NO_DATABASE, error_answer, no_database_answer
from api.openai_errors import ApiError
from api.request_limits import is_for_teams
from api.server.services import Services
from api.teams.api_keys import verified
from api.teams.caller import Caller
from api.teams.request_rate import RequestRate
from api.teams.teams import limits_of

THREADS = 8  # for authentication only, so that slow routes do not delay it
SCHEME = "Bearer "
BEARER = HTTPBearer(
    auto_error=False, scheme_name="key", description="An API key, made with `fineline api keys make TEAM`."
)


def authenticate(sessions: sessionmaker[Session], rate: RequestRate, authorization: str) -> Caller:
    """Return the caller that a header `Authorization` identifies, and count the request.

    Raises:
        ApiError: there is no valid key, or the team makes too many requests.
    """
    if not authorization.lower().startswith(SCHEME.lower()):
        raise ApiError(
            401, "the request has no API key; send it as the header 'Authorization: Bearer KEY'", code="no_api_key"
        )
    with sessions() as session:
        found = verified(session, authorization[len(SCHEME) :].strip())
        if found is None:
            raise ApiError(
                401,
                "the API key is unknown, revoked, or expired; ask the administrator for a new one",
                code="invalid_api_key",
            )
        key, team = found
        caller = Caller(team=team.name, key=key.id, limits=limits_of(team))
    limit = caller.limits.requests_a_minute
    if wait := rate.wait_seconds(caller.team, limit):
        raise ApiError(
            429,
            f"team {caller.team} may make {limit} requests a minute; try again in {wait} s",
            code="rate_limit_exceeded",
            wait_seconds=wait,
        )
    return caller


def caller(request: Request, _: Annotated[object, Depends(BEARER)]) -> Caller:
    """Return who makes the request, for a route's `Depends`."""
    return cast(Caller, request.state.caller)


TheCaller = Annotated[Caller, Depends(caller)]  # for the parameter of a route


class Authentication:
    """Refuses requests to `/v1/` without a valid key, and tells the routes who makes the others.

    FastAPI alone would read the body of a request, such as a large file, before it checks the key.
    """

    def __init__(self, app: ASGIApp, services: Services, rate: RequestRate) -> None:
        self._app, self._sessions, self._rate = app, services.sessions, rate
        self._threads = anyio.CapacityLimiter(THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or not is_for_teams(scope["path"]):
            await self._app(scope, receive, send)
            return
        header = Request(scope).headers.get("authorization", "")
        try:
            found = await run_sync(authenticate, self._sessions, self._rate, header, limiter=self._threads)
        except ApiError as error:
            await error_answer(error)(scope, receive, send)
            return
        except NO_DATABASE as error:
            await no_database_answer(Request(scope), error)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = found
        await self._app(scope, receive, send)
